"""Graphs made faster, which have to compute what they did."""

import numpy as np
import pytest
import torch

from streams.geometry import centre_crop, warp_clip
from tasks.compression.graph import crop_upright, pool_without_padding, store_int8, to_int8

onnx = pytest.importorskip("onnx", reason="needs the 'onnx' extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")

CROP = """
<ir_version: 10, opset_import: ["" : 20]>
crop (float[B,6,48,56] frames, float[B,2,3] map, float[B,SIDE,SIDE,2] grid) => (float[B,6,SIZE,SIZE] crop)
<float[B,6,48,56] same, float[B,6,SIDE,SIDE] samples>
{
    same = Identity(frames)
    samples = GridSample<align_corners = 1, mode = "linear", padding_mode = "reflection">(same, grid)
    crop = AveragePool<kernel_shape = [FINE, FINE], strides = [FINE, FINE]>(samples)
}
"""
POOL = """
<ir_version: 10, opset_import: ["" : 20]>
pool (float[B,3,5,7,8] values, int64[10] pads) => (float[B,3,5,4,4] pooled)
<float least = {-3.4e38}>
{
    full = Pad(values, pads, least)
    pooled = MaxPool<kernel_shape = [1, 2, 2], strides = [1, 2, 2]>(full)
}
"""
LINEAR = """
<ir_version: 10, opset_import: ["" : 20]>
layer (float[B,64] values) => (float[B,96] found)
{
    found = Gemm<transB = 1>(values, weights)
}
"""


@pytest.mark.parametrize(("size", "fine"), [(40, 1), (21, 2)])  # as large as the picture's part, and half as large
def test_a_crop_by_matrix_products_is_that_of_the_streams(size, fine):
    frames = torch.randint(0, 256, (2, 2, 3, 48, 56), dtype=torch.uint8)
    whole = centre_crop(48, 56, size).map
    maps = torch.from_numpy(np.stack([whole, whole + np.float32([[0, 0, 19.3], [0, 0, -17.4]])]))  # beyond the edges
    text = CROP.replace("SIDE", str(size * fine)).replace("SIZE", str(size)).replace("FINE", str(fine))
    model = onnx.parser.parse_model(text)
    assert crop_upright(model) == 1
    assert not {"GridSample", "AveragePool"} & {node.op_type for node in model.graph.node}
    stacked = frames.permute(0, 2, 1, 3, 4).flatten(1, 2).float().numpy()
    grid = np.zeros((2, size * fine, size * fine, 2), np.float32)  # which is not used any more
    found = answer(model, {"frames": stacked, "map": maps.numpy(), "grid": grid})
    expected = warp_clip(frames, maps, size)
    np.testing.assert_allclose(found, expected.flatten(1, 2).numpy(), atol=0.02)  # of 255
    assert expected.std() > 20


def test_pooling_without_padding_keeps_what_is_left_of_an_odd_size():
    model, values = onnx.parser.parse_model(POOL), torch.randn(2, 3, 5, 7, 8)
    assert pool_without_padding(model) == 1
    found = answer(model, {"values": values.numpy(), "pads": np.zeros(10, np.int64)})
    np.testing.assert_array_equal(found, torch.nn.MaxPool3d((1, 2, 2), ceil_mode=True)(values).numpy())


def test_int8_weights_are_a_quarter_as_large_and_half_a_step_off_at_most():
    random = np.random.default_rng(0)
    weights = (random.normal(size=(96, 64)) * np.logspace(-3, 1, 96)[:, None]).astype(np.float32)
    values, scales = to_int8(weights, axis=0)
    assert values.dtype == np.int8 and np.abs(values).max(axis=1).tolist() == [127] * 96
    assert (np.abs(values * scales[:, None] - weights) <= 0.5001 * scales[:, None]).all()
    model, given = onnx.parser.parse_model(LINEAR), random.normal(size=(5, 64)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    before = len(model.SerializeToString())
    assert store_int8(model) == 1 and len(model.SerializeToString()) < before / 3
    found, expected = answer(model, {"values": given}), given @ weights.T
    assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def answer(model, given):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)[0]
