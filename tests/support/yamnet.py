"""YAMNet with random weights, and these as TensorFlow would name them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from streams.towers import create_tower


def random_tower() -> nn.Module:
    """Its responses neither vanish nor explode."""
    torch.manual_seed(0)
    tower = create_tower("yamnet:none.safetensors", channels=64, width=8).eval()
    for name, value in tower.layers.state_dict().items():
        if value.ndim == 4:
            nn.init.kaiming_normal_(value)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith(("bn.bias", "running_mean")):
            value.normal_(0, 0.1)
    return tower


def convolutions(tower: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Each convolution with its batch norm, by its layer's name."""
    return ((name, part) for name, part in tower.layers.named_modules() if hasattr(part, "conv"))


def tensorflow_weights(tower: nn.Module) -> dict[str, Tensor]:
    """Its weights under TensorFlow's names, in its order of axes; batch norm has no scale there."""
    weights = {}
    for name, part in convolutions(tower):
        place = name.replace(".", "/") if "." in name else f"{name}/conv"
        depthwise = part.conv.groups > 1
        kernel = part.conv.weight.detach().permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)).contiguous()
        weights[f"{place}/{'depthwise_kernel' if depthwise else 'kernel'}:0"] = kernel
        for theirs, ours in (("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var")):
            weights[f"{place}/bn/{theirs}:0"] = getattr(part.bn, ours).detach().clone()
    return weights
