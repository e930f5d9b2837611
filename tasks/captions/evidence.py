"""The steps of each stream that a decoder attends to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from streams.encoder import Encoder


@dataclass(frozen=True)
class Evidence:
    """Steps of B clips; T' and C differ from stream to stream. The rows of absent streams are never used."""

    steps: dict[str, Tensor]  # stream → (B, T', C)
    present: dict[str, Tensor]  # stream → (B,) bool

    def only(self, streams: Sequence[str]) -> "Evidence":
        """The same as if only these streams were present."""
        return replace(self, present={name: there & (name in streams) for name, there in self.present.items()})

    def row(self, number: int) -> "Evidence":
        """One clip."""
        one = slice(number, number + 1)
        return Evidence({k: v[one] for k, v in self.steps.items()}, {k: v[one] for k, v in self.present.items()})


def evidence(
    encoders: Mapping[str, Encoder] | nn.ModuleDict,
    towers: Mapping[str, Tensor],
    sequences: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> Evidence:
    """Of towers that keep places apart what the tower gives, of others what their LSTM makes of it in time."""
    steps = {name: towers[name] if has_places(one) else sequences[name] for name, one in encoders.items()}
    return Evidence(steps, {name: present[name] for name in steps})


def channels_of(encoders: nn.ModuleDict) -> dict[str, int]:
    """stream → C of its steps."""
    return {name: one.tower.features if has_places(one) else one.lstm.hidden_size for name, one in encoders.items()}


def has_places(encoder: Encoder) -> bool:
    """True if a step of the tower is a place of a picture, and not a moment."""
    return getattr(encoder.tower, "places", False)
