"""Structured pruning: the weakest channels of each layer of a tower go, and a narrower tower is left.

Every layer keeps the same share, so that what is left is the model of a smaller --width: a run as any other, which
needs no description of its own. Which channels a layer keeps follows from its weights.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fusion.model import FusionModel, build_model
from fusion.training.run import About
from streams.encoder import Encoder
from streams.registry import parse_streams

Layer = nn.modules.conv._ConvNd | nn.Linear


def narrower(model: FusionModel, about: About, *, width: int) -> tuple[FusionModel, About, list[str]]:
    """A model of this width with the strongest channels of another, and the streams whose towers are as they were.

    The fusion head is that of the other where its size is the same, else it starts at random.
    """
    shape = replace(about.settings.recipe.model, width=width)
    settings = replace(about.settings, recipe=replace(about.settings.recipe, model=shape))
    streams = parse_streams(settings.streams, None)
    sizes = {"classes": len(about.classes), "parameters": about.parameters}
    small = build_model(shape, streams=streams, segments=settings.recipe.clip.segments, **sizes)
    with torch.no_grad():
        same = [name for name in streams if not narrow_encoder(model.encoders[name], small.encoders[name])]
        small.auxiliary.load_state_dict(model.auxiliary.state_dict())
        ours = small.head.state_dict()
        for name, tensor in model.head.state_dict().items():
            if name in ours and ours[name].shape == tensor.shape:
                ours[name].copy_(tensor)
    return small, replace(about, settings=settings), same


def narrow_encoder(big: Encoder, small: Encoder) -> bool:
    """Copy the strongest channels of an encoder into a narrower one of the same kind; return whether it is narrower."""
    sizes = [part.shape for part in small.tower.state_dict().values()]
    if sizes == [part.shape for part in big.tower.state_dict().values()]:
        small.load_state_dict(big.state_dict())
        return False
    layers = [one for one in big.tower.modules() if isinstance(one, (Layer, nn.modules.batchnorm._BatchNorm))]
    fewer = [one for one in small.tower.modules() if isinstance(one, (Layer, nn.modules.batchnorm._BatchNorm))]
    kept: Tensor | None = None  # the channels that the layer before keeps; None before the first
    before = 0  # how many it had
    for at, (ours, theirs) in enumerate(zip(layers, fewer, strict=True)):
        if not isinstance(ours, Layer):
            _copy_norm(ours, theirs, kept if before == ours.num_features else None)
            continue
        inputs = ours.weight.shape[1]
        taken = torch.arange(inputs) if kept is None else _fan(kept, inputs // before)
        strength = _strength(ours, layers[at + 1 :], big.lstm)
        kept = strength.topk(len(theirs.weight)).indices.sort().values
        before = len(ours.weight)
        theirs.weight.copy_(ours.weight[kept][:, taken])
        if ours.bias is not None:
            theirs.bias.copy_(ours.bias[kept])
    for name, tensor in small.lstm.state_dict().items():
        theirs = big.lstm.state_dict()[name]
        tensor.copy_(theirs[:, kept] if name == "weight_ih_l0" else theirs)
    return True


def _strength(layer: Layer, after: list[nn.Module], lstm: nn.LSTM) -> Tensor:
    """How much the next layer makes of each channel of a layer: (O,)

    The spread of the channel, which is batch norm's scale (Liu et al. 2017, network slimming), or without batch norm
    the sum of its weights' sizes (Li et al. 2017), times the sum of the sizes of the weights that read it.
    """
    count = len(layer.weight)
    norm = after[0] if after and isinstance(after[0], nn.modules.batchnorm._BatchNorm) else None
    spread = layer.weight.abs().flatten(1).sum(1) if norm is None else norm.weight.abs()
    reader = next((one.weight for one in after if isinstance(one, Layer)), lstm.weight_ih_l0)
    sizes = reader.abs().transpose(0, 1).flatten(1).sum(1)
    return spread * sizes.reshape(count, -1).sum(1)


def _fan(kept: Tensor, each: int) -> Tensor:
    """The inputs of a layer that has `each` of them a channel of the layer before."""
    return (kept[:, None] * each + torch.arange(each)).flatten()


def _copy_norm(ours: nn.Module, theirs: nn.Module, kept: Tensor | None) -> None:
    for name, tensor in theirs.state_dict().items():
        whole = ours.state_dict()[name]
        tensor.copy_(whole if kept is None or not whole.ndim else whole[kept])
