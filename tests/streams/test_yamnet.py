"""YAMNet as a tower: its shape, its input, and weights from files of both kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn.functional import conv2d, pad

from fusion.settings import ModelSettings
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.video.log_mel import log_mel
from streams.audio import CENTRE, SPREAD
from streams.towers import create_tower
from streams.towers.yamnet import BANDS, FIRST, LAYERS, OFFSET
from tasks.model import load
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY
from train import train

PUBLISHED = 3_751_369  # parameters that Keras counts, with the layer of 521 classes


def tower(file="none.safetensors"):
    torch.manual_seed(0)
    made = create_tower(f"yamnet:{file}", channels=64, width=8).eval()
    for name, value in made.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2)
        elif value.is_floating_point() and value.ndim == 1 and "weight" not in name:
            value.normal_(0, 0.1)
    return made


def as_tensorflow(made) -> dict[str, np.ndarray]:
    """Its weights under TensorFlow's names, in its order of axes."""
    arrays, convolutions = {}, [part for _, part in made._convolutions()]
    names = ["layer1/conv", *(f"layer{k + 2}/{p}" for k in range(13) for p in ("depthwise_conv", "pointwise_conv"))]
    for name, part in zip(names, convolutions, strict=True):
        depthwise = "depthwise" in name
        kernel = part.conv.weight.detach().permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)).contiguous().numpy()
        arrays[f"{name}/{'depthwise_kernel' if depthwise else 'kernel'}:0"] = kernel
        for theirs, ours in (("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var")):
            arrays[f"{name}/bn/{theirs}:0"] = getattr(part.norm, ours).detach().numpy().copy()
    return arrays


def test_it_has_the_parameters_of_the_published_network():
    sizes = [np.prod(value.shape) for value in as_tensorflow(tower()).values()]
    assert sum(sizes) + 1024 * 521 + 521 == PUBLISHED


def test_a_stride_pads_as_tensorflow_does():
    """Against a convolution at stride one, of which every second answer is taken from where TensorFlow begins."""
    first = tower().layers[0]
    maps = torch.randn(2, 1, 96, 64)
    dense = conv2d(pad(maps, (0, 1, 0, 1)), first.conv.weight)[
        :, :, ::2, ::2
    ]  # SAME of an even length: all of it after
    torch.testing.assert_close(first(maps), torch.relu(first.norm(dense)), rtol=1e-4, atol=1e-5)
    assert tower().layers(maps).shape == (2, LAYERS[-1][1], 3, 2)


@pytest.mark.parametrize(("rows", "steps"), [(50, 1), (96, 1), (97, 2), (512, 10)])
def test_a_step_is_half_a_second(rows, steps):
    assert tower()(torch.randn(2, 64, rows)).shape == (2, steps, 1024)


def yamnet_mel(samples: np.ndarray) -> np.ndarray:
    """YAMNet's input by its own recipe, with torchaudio's filters: (64, T)"""
    from torchaudio.functional import melscale_fbanks

    frames = torch.from_numpy(samples).unfold(0, 400, 160) * torch.hann_window(400)
    filters = melscale_fbanks(257, 125.0, 7500.0, BANDS, 16_000, norm=None, mel_scale="htk")
    return torch.log(torch.fft.rfft(frames, 512).abs() @ filters + OFFSET).T.numpy()


@pytest.mark.parametrize(("kind", "apart", "alike"), [("noise", 0.2, 0.98), ("chord", 0.5, 0.9), ("chirp", 0.6, 0.85)])
def test_its_input_is_near_what_its_weights_were_trained_on(kind, apart, alike):
    rng, clock = np.random.default_rng(0), np.arange(48_000) / 16_000
    noise = rng.normal(0, 0.05, len(clock)) * (1 + np.sin(2 * np.pi * clock))
    tones = sum(0.1 * np.sin(2 * np.pi * pitch * clock) for pitch in (220, 555, 1310, 3000))
    chirp = 0.3 * np.sin(2 * np.pi * (200 * clock + 900 * clock**2))
    samples = {"noise": noise, "chord": tones + 0.1 * noise, "chirp": chirp + 0.1 * noise}[kind].astype(np.float32)
    ours = tower().log_mel(torch.from_numpy(log_mel(samples).astype(np.float32).T[None]))[0].numpy()
    theirs = yamnet_mel(samples)
    ours = ours[:, 1 : 1 + theirs.shape[1]]  # theirs are centred 12.5 ms after the hop, ours on it
    print(kind, np.abs(ours - theirs).mean(), np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    assert np.abs(ours - theirs).mean() < apart
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > alike


def test_files_of_both_kinds_give_the_same_tower(tmp_path):
    made = tower()
    save_file(as_tensorflow(made), tmp_path / "tensorflow.safetensors")
    save_file({name: value.numpy() for name, value in made.state_dict().items()}, tmp_path / "ours.safetensors")
    onnx = pytest.importorskip("onnx")
    write_onnx(onnx, made, tmp_path / "folded.onnx", fold=True)
    write_onnx(onnx, made, tmp_path / "apart.onnx", fold=False)
    sound = (torch.randn(2, 64, 200) - CENTRE) / SPREAD
    expected = made(sound)
    for file in sorted(tmp_path.iterdir()):
        other = create_tower(f"yamnet:{file}", channels=64, width=8).eval()
        published = other.published()
        other.load_state_dict(published.tensors)
        assert published.path == file
        torch.testing.assert_close(other(sound), expected, rtol=1e-3, atol=1e-4)


def write_onnx(onnx, made, path, *, fold: bool) -> None:
    """A graph of its convolutions, with batch norm folded into them or apart."""
    nodes, weights, last = [], {}, "x"
    for row, (_, part) in enumerate(made._convolutions()):
        norm, kernel = part.norm, part.conv.weight.detach()
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        names = [f"w{row}"]
        weights[f"w{row}"] = (kernel * scale[:, None, None, None] if fold else kernel).numpy()
        if fold:
            names.append(f"b{row}")
            weights[f"b{row}"] = (norm.bias.detach() - norm.running_mean * scale).numpy()
        nodes.append(onnx.helper.make_node("Conv", [last, *names], [f"c{row}"], group=part.conv.groups))
        last = f"c{row}"
        if not fold:
            given = {"s": norm.weight.detach(), "h": norm.bias.detach(), "m": norm.running_mean, "v": norm.running_var}
            weights |= {f"{key}{row}": value.numpy() for key, value in given.items()}
            nodes.append(
                onnx.helper.make_node("BatchNormalization", [last, *(f"{k}{row}" for k in given)], [f"n{row}"])
            )
            last = f"n{row}"
        nodes.append(onnx.helper.make_node("Relu", [last], [f"r{row}"]))
        last = f"r{row}"
    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    constants = [onnx.numpy_helper.from_array(array.copy(), name) for name, array in weights.items()]
    ends = [value("x", kind, [1, 1, 96, 64])], [value(last, kind, None)]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "yamnet", *ends, constants)), str(path))


def test_a_file_that_is_no_yamnet_is_one_line(tmp_path):
    other = as_tensorflow(tower())
    other["layer3/pointwise_conv/kernel:0"] = other["layer3/pointwise_conv/kernel:0"][..., :FIRST]
    save_file(other, tmp_path / "other.safetensors")
    save_file({"some": np.zeros(3, np.float32)}, tmp_path / "some.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "text.onnx").write_text("no graph")
    for name in ("other.safetensors", "some.safetensors", "text.safetensors", "text.onnx", "gone.onnx"):
        with pytest.raises(UserError, match=name) as caught:
            create_tower(f"yamnet:{tmp_path / name}", channels=64, width=8).published()
        assert "\n" not in str(caught.value)


def test_a_run_starts_from_the_file_says_so_and_needs_it_no_more(tmp_path, capsys):
    save_file(as_tensorflow(tower()), tmp_path / "yamnet.safetensors")
    store = make_store(tmp_path / "s.h5", three_bit(16, streams=("audio",)))
    model = ModelSettings(towers=(f"audio=yamnet:{tmp_path / 'yamnet.safetensors'}",), feature=8)
    recipe = replace(TINY, epochs=1, freeze="audio", model=model)
    given = TrainSettings(data=store.path, streams="audio", run=tmp_path / "run", recipe=recipe, machine=CPU)
    train(given)
    assert "yamnet.safetensors" in capsys.readouterr().out
    (tmp_path / "yamnet.safetensors").unlink()
    (windows,) = load(tmp_path / "run", device="cpu").windows(store, video="000/v000.mp4")
    assert windows.towers["audio"].shape[2] == 1024
