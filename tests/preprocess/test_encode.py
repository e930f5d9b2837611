"""Flow, pictures and sound as bytes."""

import cv2
import numpy as np
import pytest

from preprocess.encode import (
    FLOW_BOUND,
    FLOW_ZERO,
    decode_flow,
    decode_rgb,
    dequantise_flow,
    encode_flow,
    encode_rgb,
    quantise_flow,
)
from tests.videos import drift

STEP = FLOW_BOUND / 127  # pixels a frame


def smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth flow field, (H, W, 2), within the bound."""
    field = np.random.default_rng(seed).uniform(-15, 15, (4, 5, 2)).astype(np.float32)
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_CUBIC)


def test_no_motion_is_the_byte_128_and_comes_back_as_exactly_nothing():
    still = np.zeros((6, 8, 2), np.float32)
    assert (quantise_flow(still) == 128).all()
    assert (dequantise_flow(quantise_flow(still)) == 0).all()
    assert (quantise_flow(-still) == FLOW_ZERO).all()


def test_quantising_is_the_formula_of_the_design():
    flow = np.random.default_rng(0).uniform(-30, 30, (50, 60, 2)).astype(np.float32)
    expected = np.round(128 + np.clip(flow, -20, 20).astype(np.float64) * 127 / 20)
    assert np.abs(quantise_flow(flow).astype(int) - expected).max() <= 1  # where rounding meets a tie
    assert (quantise_flow(flow) == expected).mean() > 0.999


@pytest.mark.parametrize("bound", [20.0, 5.0])
def test_a_round_trip_errs_by_half_a_step_at_most(bound):
    flow = np.linspace(-bound, bound, 100_001, dtype=np.float32).reshape(-1, 1)
    back = dequantise_flow(quantise_flow(flow, bound=bound), bound=bound)
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= bound / 127 / 2 * (1 + 1e-4)


@pytest.mark.parametrize("speed", [20.0, 20.1, 1000.0, np.inf])
def test_faster_motion_than_the_bound_is_clipped_alike_on_both_sides(speed):
    code = quantise_flow(np.array([speed, -speed], np.float32))
    assert code.tolist() == [255, 1]
    np.testing.assert_allclose(dequantise_flow(code), [20.0, -20.0], rtol=1e-6)


def test_quantising_is_odd_so_that_flipping_a_flow_is_negating_it():
    flow = np.random.default_rng(1).uniform(-25, 25, 10_000).astype(np.float32)
    np.testing.assert_array_equal(dequantise_flow(quantise_flow(-flow)), -dequantise_flow(quantise_flow(flow)))


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (8, 8), (1, 3)])
def test_still_flow_survives_its_jpeg_exactly(size):
    code = np.full((*size, 2), FLOW_ZERO, np.uint8)
    np.testing.assert_array_equal(decode_flow(encode_flow(code)), code)


@pytest.mark.parametrize("size", [(32, 48), (36, 50), (128, 170)])
def test_flow_survives_its_jpeg_within_a_few_steps(size):
    flow = smooth(size)
    back = dequantise_flow(decode_flow(encode_flow(quantise_flow(flow))))
    assert back.shape == flow.shape
    assert np.abs(back - flow).mean() < STEP
    assert np.quantile(np.abs(back - flow), 0.99) < 4 * STEP


def test_horizontal_and_vertical_flow_are_not_exchanged():
    flow = np.zeros((16, 24, 2), np.float32)
    flow[..., 0], flow[..., 1] = 3.0, -6.0
    back = dequantise_flow(decode_flow(encode_flow(quantise_flow(flow))))
    np.testing.assert_allclose(back, flow, atol=STEP)


def test_a_flow_jpeg_is_a_grey_image_with_x_above_y():
    code = np.zeros((16, 24, 2), np.uint8)
    code[..., 0], code[..., 1] = 200, 50
    image = cv2.imdecode(encode_flow(code), cv2.IMREAD_UNCHANGED)
    assert image.shape == (32, 24)
    assert abs(image[:16].mean() - 200) < 1
    assert abs(image[16:].mean() - 50) < 1


@pytest.mark.parametrize("colour", [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)])
def test_a_picture_keeps_its_colours_in_their_order(colour):
    rgb = np.broadcast_to(np.array(colour, np.uint8), (32, 43, 3))
    np.testing.assert_allclose(decode_rgb(encode_rgb(np.ascontiguousarray(rgb))), rgb, atol=4)


def test_a_picture_survives_its_jpeg():
    rgb = drift(1, size=(64, 90))[0]
    back = decode_rgb(encode_rgb(rgb))
    assert back.dtype == np.uint8
    assert cv2.PSNR(back, rgb) > 38


@pytest.mark.parametrize("decode", [decode_rgb, decode_flow])
@pytest.mark.parametrize("rubbish", [b"", b"not a picture", bytes(300)])
def test_bytes_that_are_no_jpeg_are_a_clear_error(decode, rubbish):
    with pytest.raises(ValueError, match="damaged"):
        decode(np.frombuffer(rubbish, np.uint8))
