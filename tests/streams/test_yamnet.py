"""YAMNet as a tower: its shape, its input, and weights from files of both kinds."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, pad

from preprocess.common.errors import UserError
from preprocess.store.format import SILENCE
from preprocess.video.log_mel import log_mel
from streams.towers import create_tower
from streams.towers.yamnet import BANDS, LAYERS, OFFSET
from tests.support.yamnet import convolutions, random_tower, tensorflow_weights

PUBLISHED = 3_751_369  # parameters that Keras counts, with the layer of 521 classes
SOUNDS = {
    "noise": (0.14, 0.98),
    "pink": (0.14, 0.94),
    "voice": (0.16, 0.99),
    "chirp": (0.18, 0.97),
    "clicks": (0.14, 0.99),
}


def test_it_has_the_parameters_of_the_published_network():
    sizes = [value.numel() for value in tensorflow_weights(random_tower()).values()]
    assert sum(sizes) + 1024 * 521 + 521 == PUBLISHED


@torch.no_grad()
def test_its_layers_shrink_as_the_published_ones():
    layers = random_tower().layers
    maps, shapes = torch.randn(1, 1, 96, 64), []
    for layer in list(layers)[:-1]:
        maps = layer(maps)
        shapes.append(tuple(maps.shape[1:]))
    halves = [(48, 32)] * 2 + [(24, 16)] * 2 + [(12, 8)] * 2 + [(6, 4)] * 6 + [(3, 2)] * 2
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert shapes == [(out, *half) for out, half in zip(channels, halves, strict=True)]
    assert [out for _, out in LAYERS] == channels[1:]


@torch.no_grad()
def test_a_stride_pads_as_tensorflow_does():
    """Against a convolution at stride one, of which every second answer is taken from where TensorFlow begins."""
    first = random_tower().layers.layer1
    maps = torch.randn(2, 1, 96, 64)
    dense = conv2d(pad(maps, (0, 1, 0, 1)), first.conv.weight)  # SAME of an even length: all of it after
    torch.testing.assert_close(first(maps), torch.relu(first.bn(dense[:, :, ::2, ::2])), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_step_is_half_a_second():
    tower = random_tower()
    found = {rows: tower(torch.randn(2, 64, rows)).shape for rows in (50, 96, 97, 512)}
    assert found == {rows: (2, steps, 1024) for rows, steps in ((50, 1), (96, 1), (97, 2), (512, 10))}


@torch.no_grad()
def test_it_keeps_the_statistics_of_its_weights_in_training():
    tower = random_tower()
    sound = torch.randn(2, 64, 96)
    torch.testing.assert_close(tower.train()(sound), tower.eval()(sound), rtol=0, atol=0)


def yamnet_mel(samples: np.ndarray) -> np.ndarray:
    """YAMNet's input by its own recipe; frame j is centred on row j: (64, T)

    torchaudio's filters are triangles over Hz, YAMNet's over mel: a mean difference of 0.0015 to TensorFlow's own.
    """
    from torchaudio.functional import melscale_fbanks

    frames = torch.from_numpy(np.pad(samples, (200, 0))).unfold(0, 400, 160) * torch.hann_window(400)
    filters = melscale_fbanks(257, 125.0, 7500.0, BANDS, 16_000, norm=None, mel_scale="htk")
    return torch.log(torch.fft.rfft(frames, 512).abs() @ filters + OFFSET).T.numpy()


def sound(kind: str) -> np.ndarray:
    """Three seconds."""
    rng, clock = np.random.default_rng(0), np.arange(48_000) / 16_000
    noise = rng.normal(0, 0.05, len(clock))
    if kind == "pink":
        return np.fft.irfft(np.fft.rfft(noise) / np.sqrt(np.arange(1, 24_002)))
    if kind == "voice":  # 29 harmonics of a pitch that trembles
        pitch = 200 * clock + 8 * np.sin(2 * np.pi * 5 * clock)
        return sum(0.1 / k * np.sin(2 * np.pi * k * pitch) for k in range(1, 30)) + noise / 1000
    if kind == "chirp":
        return 0.3 * np.sin(2 * np.pi * (200 * clock + 900 * clock**2)) + noise / 10
    if kind == "clicks":
        return np.where(np.arange(48_000) % 4000, 0.0, 0.8) + noise / 50
    return noise * (1 + np.sin(2 * np.pi * clock))


@pytest.mark.parametrize(("kind", "bands"), [*((kind, 64) for kind in SOUNDS), ("noise", 128), ("voice", 40)])
def test_its_input_is_near_what_its_weights_were_trained_on(kind, bands):
    samples = sound(kind).astype(np.float32)
    tower = create_tower("yamnet:none.onnx", channels=bands, width=8)
    ours = tower.log_mel(torch.from_numpy(log_mel(samples, bands=bands).astype(np.float32).T[None]))[0].numpy()
    theirs = yamnet_mel(samples)
    ours = ours[:, : theirs.shape[1]]
    apart, alike = np.abs(ours - theirs).mean(), np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    most, least = SOUNDS[kind] if bands >= 64 else (0.35, 0.95)
    assert apart < most and alike > least, (apart, alike)


def test_silence_is_silence_to_it_too():
    mel = random_tower().log_mel(torch.full((1, 64, 3), SILENCE))
    torch.testing.assert_close(mel, torch.full_like(mel, float(np.log(OFFSET))), rtol=0, atol=0.01)


def test_its_input_is_as_exact_in_mixed_precision():
    mel = torch.from_numpy(log_mel(sound("voice").astype(np.float32)).astype(np.float32).T[None])
    tower = random_tower()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = tower.log_mel(mel)
    torch.testing.assert_close(mixed, tower.log_mel(mel), rtol=0, atol=0)


def as_pytorch(tower) -> dict:
    """As another PyTorch port names them, its classifier too."""
    names = {name: f"{name.replace('layer1.', 'layer1.fused.')}" for name in tower.layers.state_dict()}
    weights = {names[name]: value.clone() for name, value in tower.layers.state_dict().items()}
    return weights | {"classifier.weight": torch.zeros(521, 1024), "classifier.bias": torch.zeros(521)}


def as_keras_numbers(tower) -> dict:
    """Without layers' names: each kind of layer is numbered apart, as Keras does."""
    weights, numbers = {"dense/kernel:0": torch.zeros(1024, 521), "dense/bias:0": torch.zeros(521)}, {}
    for name, value in tensorflow_weights(tower).items():
        kind = "batch_normalization" if "/bn/" in name else "depthwise_conv2d" if "depthwise" in name else "conv2d"
        last = name.rpartition("/")[2]
        number = numbers[kind, last] = numbers.get((kind, last), -1) + 1
        weights[f"{kind}{f'_{number}' if number else ''}/{last}"] = value
    return weights


def folded(tower) -> dict:
    """Batch norm folded into the convolutions, which then have a bias."""
    weights = {}
    for name, part in convolutions(tower):
        scale = part.bn.weight / (part.bn.running_var + part.bn.eps).sqrt()
        weights[f"{name}.conv.weight"] = (part.conv.weight * scale[:, None, None, None]).detach()
        weights[f"{name}.conv.bias"] = (part.bn.bias - part.bn.running_mean * scale).detach()
    return weights


WAYS = {
    "own": lambda tower: {name: value.clone() for name, value in tower.state_dict().items()},
    "tensorflow": tensorflow_weights,
    "pytorch": as_pytorch,
    "keras": as_keras_numbers,
    "folded": folded,
}


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_a_safetensors_file_gives_the_same_tower_whatever_its_names(tmp_path, way):
    tower, file = random_tower(), tmp_path / f"{way}.safetensors"
    save_file(WAYS[way](tower), file, metadata={"license": "Apache-2.0"})
    sound = torch.randn(2, 64, 200)
    other = create_tower(f"yamnet:{file}", channels=64, width=8).eval()
    published = other.published()
    assert (published.path, published.licence) == (file, "Apache-2.0")
    other.layers.load_state_dict(published.tensors, strict=False)
    torch.testing.assert_close(other(sound), tower(sound), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("way", "ending"), [("folded", ".onnx"), ("norm", ".onnx"), ("scaled", ".ONNX")])
@torch.no_grad()
def test_an_onnx_file_gives_the_same_tower_and_what_the_graph_gives(tmp_path, way, ending):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    tower, file = random_tower(), tmp_path / f"{way}{ending}"
    model = graph(onnx, tower, way)
    onnx.save(model, str(file))
    other = create_tower(f"yamnet:{file}", channels=64, width=8).eval()
    other.layers.load_state_dict(other.published().tensors, strict=False)
    sound = torch.randn(2, 64, 200)
    torch.testing.assert_close(other(sound), tower(sound), rtol=1e-4, atol=1e-5)
    pictures = tower.pictures(sound)[:1]
    (expected,) = ReferenceEvaluator(model).run(None, {"x": pictures.numpy()})
    torch.testing.assert_close(tower.layers(pictures), torch.from_numpy(expected), rtol=1e-3, atol=1e-4)


def graph(onnx, tower, way: str):
    """A graph with a convolution of its own first; batch norm folded, a node with another epsilon, or two nodes."""
    nodes, weights = [onnx.helper.make_node("Conv", ["x", "one"], ["first"])], {"one": torch.ones(1, 1, 1, 1)}
    last = "first"

    def add(kind: str, *constants: torch.Tensor, **attributes) -> None:
        nonlocal last
        names = [f"{kind}{len(nodes)}.{at}" for at, _ in enumerate(constants)]
        weights.update(zip(names, constants, strict=True))
        nodes.append(onnx.helper.make_node(kind, [last, *names], [f"y{len(nodes)}"], **attributes))
        last = f"y{len(nodes) - 1}"

    for name, part in convolutions(tower):
        bn, kernel = part.bn, part.conv.weight.detach()
        scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
        shift = (bn.bias - bn.running_mean * scale).detach()
        shape = {"group": part.conv.groups, "strides": part.conv.stride, "auto_pad": "SAME_UPPER"}
        if way == "folded":
            add("Conv", kernel * scale[:, None, None, None], shift, **shape)
        elif way == "norm":
            add("Conv", kernel, bn.running_mean, **shape)  # a bias that the norm takes away
            variance = bn.running_var + bn.eps - 0.01
            add("BatchNormalization", bn.weight.detach(), bn.bias.detach(), 2 * bn.running_mean, variance, epsilon=0.01)
        else:
            weights[f"{name}.theirs"] = kernel.permute(2, 3, 1, 0).contiguous()  # TensorFlow's order
            turned = onnx.helper.make_node("Transpose", [f"{name}.theirs"], [f"{name}.ours"], perm=[3, 2, 0, 1])
            nodes += [turned, onnx.helper.make_node("Conv", [last, f"{name}.ours"], [f"{name}.y"], **shape)]
            last = f"{name}.y"
            add("Mul", scale[:, None, None])
            add("Add", shift[:, None, None])
        add("Relu")
    add("ReduceMean", torch.tensor([2, 3]), keepdims=0)
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    constants = [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in weights.items()]
    ends = [value("x", kind, [1, 1, 96, 64])], [value(last, kind, [1, 1024])]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "yamnet", *ends, constants), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    onnx.checker.check_model(made)
    return made


def test_a_file_that_does_not_fit_is_one_line_with_the_first_layer_that_does_not(tmp_path):
    right = tensorflow_weights(random_tower())
    name = "layer9/pointwise_conv/kernel:0"
    other = right | {name: right[name][..., :32].contiguous()}
    lacking = {key: value for key, value in right.items() if not key.startswith("layer7/depthwise_conv/bn/moving_mean")}
    save_file(other, tmp_path / "other.safetensors")
    save_file(lacking, tmp_path / "lacking.safetensors")
    save_file({key: value for key, value in right.items() if key != name}, tmp_path / "without.safetensors")
    save_file({"some": torch.zeros(3)}, tmp_path / "some.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for file, says in (
        ("other.safetensors", r"layer9.pointwise_conv.* 1×1×512×32; 512×512×1×1 is expected"),
        ("lacking.safetensors", r"layer7.depthwise_conv.*expected"),
        ("without.safetensors", r"layer9.pointwise_conv is not there.*512×512×1×1 is expected"),
        ("some.safetensors", r"layer1 is not there.*32×1×3×3 is expected"),
        ("text.safetensors", "damaged"),
        ("gone.onnx", "no such file"),
    ):
        assert_one_line(tmp_path / file, says)


def test_an_onnx_file_that_does_not_fit_is_one_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    assert_one_line(tmp_path / "text.onnx", "damaged")
    model = graph(onnx, random_tower(), "folded")
    for constant in model.graph.initializer:
        if constant.name.startswith("Conv7."):  # the fourth convolution: its weights are an input
            constant.name = f"no {constant.name}"
    onnx.save(model, str(tmp_path / "computed.onnx"))
    assert_one_line(tmp_path / "computed.onnx", "layer3.depthwise_conv is not there")


def assert_one_line(file, says: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(str(file))}.*{says}") as caught:
        create_tower(f"yamnet:{file}", channels=64, width=8).published()
    assert "\n" not in str(caught.value)
