"""The towers of published systems, against the papers' tables and another program for the same weights."""

from math import ceil

import pytest
import torch
from torch import nn
from torch.nn import functional

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.transfer import initialise
from streams.towers import create_tower

SHRINKS = {"plain3d": 4, "cnn": 1, "c3d": 16, "i3d": 8}  # pictures a time step
# Tran et al. 2015, figure 3, of 16 pictures of 112 × 112: channels, and what each pooling leaves
C3D = {
    "pool1": (64, 16, 56, 56),
    "pool2": (128, 8, 28, 28),
    "pool3b": (256, 4, 14, 14),
    "pool4b": (512, 2, 7, 7),
    "pool5b": (512, 1, 4, 4),
}
# Carreira and Zisserman 2017, figure 3, of 64 pictures of 224 × 224; channels by Szegedy et al. 2015, table 1
I3D = {
    "Conv3d_1a_7x7": (64, 32, 112, 112),
    "MaxPool3d_2a_3x3": (64, 32, 56, 56),
    "Conv3d_2c_3x3": (192, 32, 56, 56),
    "MaxPool3d_3a_3x3": (192, 32, 28, 28),
    "Mixed_3b": (256, 32, 28, 28),
    "Mixed_3c": (480, 32, 28, 28),
    "MaxPool3d_4a_3x3": (480, 16, 14, 14),
    "Mixed_4b": (512, 16, 14, 14),
    "Mixed_4e": (528, 16, 14, 14),
    "Mixed_4f": (832, 16, 14, 14),
    "MaxPool3d_5a_2x2": (832, 8, 7, 7),
    "Mixed_5c": (1024, 8, 7, 7),
}


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shapes_of(tower: nn.Module, clip: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """What each layer gives for one clip."""
    found = {}
    for name, layer in tower.layers.named_children():
        layer.register_forward_hook(lambda _, __, out, name=name: found.update({name: tuple(out.shape[1:])}))
    assert tower(clip).shape[2] == tower.features
    return found


def on_paper(name: str) -> nn.Module:
    """A tower without numbers, only shapes."""
    with torch.device("meta"):
        return create_tower(name, channels=3, width=1).eval()


def test_c3d_has_the_papers_layers_and_with_its_fully_connected_ones_78_million_weights():
    tower = on_paper("c3d")
    found = shapes_of(tower, torch.empty(1, 3, 16, 112, 112, device="meta"))
    assert {name: found[name] for name in C3D} == C3D
    kernels = [layer.kernel_size for layer in tower.modules() if isinstance(layer, nn.Conv3d)]
    assert kernels == [(3, 3, 3)] * 8
    flat = 512 * 1 * 4 * 4
    connected = sum(inputs * out + out for inputs, out in ((flat, 4096), (4096, 4096), (4096, 101)))
    assert weights(tower) + connected == pytest.approx(78e6, rel=0.01)


def test_i3d_has_the_papers_layers_and_12_3_million_weights():
    tower = on_paper("i3d")
    found = shapes_of(tower, torch.empty(1, 3, 64, 224, 224, device="meta"))
    assert {name: found[name] for name in I3D} == I3D
    assert weights(tower) == pytest.approx(12.3e6, rel=0.005)
    convolutions = [layer for layer in tower.modules() if isinstance(layer, nn.Conv3d)]
    assert len(convolutions) == 57  # 3, and 6 in each of nine modules; the classifier is the 58th


def test_clips_of_any_size_are_taken_and_the_smallest_can_be_learned_from():
    for name, shrinks in SHRINKS.items():
        tower = create_tower(name, channels=2, width=4).eval()
        with torch.no_grad():
            for frames, height, width in ((1, 32, 32), (11, 33, 47)):
                sequence = tower(torch.randn(2, 2, frames, height, width))
                assert sequence.shape == (2, ceil(frames / shrinks), tower.features) and sequence.isfinite().all()
        tower.train()(torch.randn(1, 2, 1, 32, 32)).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in tower.parameters())


def same(clip: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """TensorFlow's padding, by the rule in its documentation of tf.nn."""
    sides = []
    for length, size, step in zip(clip.shape[2:], kernel, stride, strict=True):
        lacking = max(size - step, 0) if length % step == 0 else max(size - length % step, 0)
        sides = [lacking // 2, lacking - lacking // 2, *sides]
    return functional.pad(clip, sides)


def release(weights: dict[str, torch.Tensor], clip: torch.Tensor) -> torch.Tensor:
    """pytorch-i3d's network up to its average pool, written out: → (B, T, 1024)"""

    def unit(name: str, values: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{name}.conv3d.weight"]
        norm = [weights[f"{name}.bn.{one}"] for one in ("running_mean", "running_var", "weight", "bias")]
        values = functional.conv3d(same(values, kernel.shape[2:], (stride,) * 3), kernel, stride=stride)
        return functional.batch_norm(values, *norm, eps=1e-3).relu()

    def pool(values: torch.Tensor, kernel: tuple, stride: tuple) -> torch.Tensor:
        return functional.max_pool3d(same(values, kernel, stride), kernel, stride)

    def mixed(name: str, values: torch.Tensor) -> torch.Tensor:
        around = pool(values, (3, 3, 3), (1, 1, 1))
        branches = [unit(f"{name}.b0", values)]
        branches += [unit(f"{name}.{one}b", unit(f"{name}.{one}a", values)) for one in ("b1", "b2")]
        return torch.cat([*branches, unit(f"{name}.b3b", around)], dim=1)

    values = pool(unit("Conv3d_1a_7x7", clip, 2), (1, 3, 3), (1, 2, 2))
    values = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", values)), (1, 3, 3), (1, 2, 2))
    for stage, modules, after in (("3", "bc", 3), ("4", "bcdef", 2), ("5", "bc", 0)):
        for module in modules:
            values = mixed(f"Mixed_{stage}{module}", values)
        values = pool(values, (after,) * 3, (2, 2, 2)) if after else values
    return values.mean(dim=(3, 4)).transpose(1, 2)


def of_the_release(channels: int) -> dict[str, torch.Tensor]:
    """Random weights under the names of pytorch-i3d, whose responses neither vanish nor explode."""
    random = torch.Generator().manual_seed(0)
    shapes = {"Conv3d_1a_7x7": (64, channels, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (192, 64, 3)}
    before = 192
    for name, b0, b1a, b1b, b2a, b2b, b3b in (
        ("3b", 64, 96, 128, 16, 32, 32),
        ("3c", 128, 128, 192, 32, 96, 64),
        ("4b", 192, 96, 208, 16, 48, 64),
        ("4c", 160, 112, 224, 24, 64, 64),
        ("4d", 128, 128, 256, 24, 64, 64),
        ("4e", 112, 144, 288, 32, 64, 64),
        ("4f", 256, 160, 320, 32, 128, 128),
        ("5b", 256, 160, 320, 32, 128, 128),
        ("5c", 384, 192, 384, 48, 128, 128),
    ):
        units = {"b0": (b0, before, 1), "b1a": (b1a, before, 1), "b1b": (b1b, b1a, 3)}
        units |= {"b2a": (b2a, before, 1), "b2b": (b2b, b2a, 3), "b3b": (b3b, before, 1)}
        shapes |= {f"Mixed_{name}.{unit}": shape for unit, shape in units.items()}
        before = b0 + b1b + b2b + b3b
    made = {}
    for name, (out, inputs, kernel) in shapes.items():
        weight = torch.randn(out, inputs, kernel, kernel, kernel, generator=random)
        made[f"{name}.conv3d.weight"] = weight * (2 / (inputs * kernel**3)) ** 0.5
        for part in ("weight", "running_var"):
            made[f"{name}.bn.{part}"] = torch.rand(out, generator=random) + 0.5
        for part in ("bias", "running_mean"):
            made[f"{name}.bn.{part}"] = torch.randn(out, generator=random) / 10
        made[f"{name}.bn.num_batches_tracked"] = torch.tensor(1)
    made["logits.conv3d.weight"], made["logits.conv3d.bias"] = torch.randn(400, 1024, 1, 1, 1), torch.zeros(400)
    return made


@torch.no_grad()
def test_weights_of_the_public_i3d_load_by_name_and_give_its_features(tmp_path):
    channels, parameters = {"rgb": 3, "flow": 2}, {"fps": 25.0, "short_side": 64, "mel_bands": 16}
    theirs = {stream: of_the_release(count) for stream, count in channels.items()}
    for stream, tensors in theirs.items():
        torch.save(tensors, tmp_path / f"{stream}_imagenet.pt")
    settings = ModelSettings(towers=("rgb=i3d", "flow=i3d"), feature=8)
    model = build_model(settings, streams=("rgb", "flow"), classes=3, parameters=parameters).eval()
    for report in initialise(model, tuple(f"{stream}={tmp_path / stream}_imagenet.pt" for stream in channels)):
        assert report.matched == report.taken == 5 * 57 and report.unused == {"logits": 2}
        assert set(report.left_out) == {"lstm, not in the file"}
    for stream, count in channels.items():
        clip = torch.randn(1, count, 9, 40, 33)
        found, expected = model.encoders[stream].tower(clip), release(theirs[stream], clip)
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
