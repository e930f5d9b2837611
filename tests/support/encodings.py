"""Made-up encodings, for heads to be tried on."""

from collections.abc import Callable

import torch
from torch import nn

from fusion.heads import HEADS
from fusion.heads.head import Mask, StreamOutputs

CHANNELS = {"one": 6, "two": 7, "three": 4}  # heads know nothing of the streams' names
STEPS = {"one": 4, "two": 13, "three": 1}
STREAMS = tuple(CHANNELS)
B, D, K = 6, 8, 5


def make(name: str, streams: tuple[str, ...] = STREAMS, *, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(0)
    channels = {stream: CHANNELS[stream] for stream in streams}
    return HEADS[name](channels=channels, feature=D, classes=K, dropout=dropout).eval()


def inputs(
    streams: tuple[str, ...] = STREAMS, *, rows: int = B, seed: int = 1, steps: dict[str, int] = STEPS
) -> tuple[StreamOutputs, Mask]:
    """Random numbers; each stream is present in some rows and absent in others."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(rows, *shape, generator=generator)

    encoding = StreamOutputs(
        {name: draw(K) for name in streams},
        {name: draw(D) for name in streams},
        {name: draw(steps[name], D) for name in streams},
        {name: draw(steps[name], CHANNELS[name]) for name in streams},
    )
    return encoding, {name: torch.rand(rows, generator=generator) < 0.6 for name in streams}


def everywhere(streams: tuple[str, ...] = STREAMS, rows: int = B) -> Mask:
    return {name: torch.ones(rows, dtype=torch.bool) for name in streams}


def change(encoding: StreamOutputs, how: Callable[[str, torch.Tensor], torch.Tensor]) -> StreamOutputs:
    """`how` makes of a stream and each of its parts another one."""
    return StreamOutputs(*({name: how(name, part) for name, part in parts.items()} for parts in encoding))
