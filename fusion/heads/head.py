"""The base class of all fusion heads, and the masking of absent streams."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Parts = dict[str, Tensor]  # stream → its tensor
Mask = dict[str, Tensor]  # stream → (B,) bool


class StreamOutputs(NamedTuple):
    """The encoders' outputs for a batch. T' and C differ from stream to stream."""

    logits: Parts  # (B, K), each stream's own
    features: Parts  # (B, D), the mean of its sequence
    sequences: Parts  # (B, T', D), its LSTM's
    towers: Parts  # (B, T', C), its tower's: the input of its LSTM


class Head(nn.Module, ABC):
    """Fusion in two steps: one feature from the present streams, then the classes from it."""

    streams: tuple[str, ...]
    classify: Callable[[Tensor], Tensor]  # (B, F) → (B, K), a module that each head sets

    @abstractmethod
    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """outputs of B clips, present {(B,)} → (B, F), the fused feature"""

    def forward(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """outputs of B clips, present {(B,)} → (B, K), logits"""
        return self.classify(self.features(outputs, present))


def visible(parts: Parts, present: Mask, streams: Iterable[str]) -> list[Tensor]:
    """{(B, ...)}, {(B,)} → the parts of `streams`, (B, ...) each, with zeros where a stream is absent.

    The masked values, even NaN, have no influence and get no gradient.
    """

    def hide(part: Tensor, there: Tensor) -> Tensor:
        return part.masked_fill(~there[(..., *[None] * (part.ndim - 1))], 0.0)

    return [hide(parts[name], present[name]) for name in streams]


def joined(parts: Parts, present: Mask, streams: Iterable[str]) -> Tensor:
    """{(B, D)}, {(B,)} → (B, streams · (D + 1)): the visible parts, then a flag a stream: a feature may be zeros."""
    shown = visible(parts, present, streams)
    flags = torch.stack([present[name] for name in streams], dim=1)
    return torch.cat([*shown, flags.to(shown[0].dtype)], dim=1)


def combination(present: Mask, streams: Iterable[str]) -> Tensor:
    """{(B,)} → (B,) int64: the number of each row's combination of streams, whose bit k is set for the k-th."""
    return sum(present[name].long() << bit for bit, name in enumerate(streams))


def subset_number(subset: Iterable[str], streams: Iterable[str]) -> int:
    """The number that `combination` gives to rows with just these streams."""
    return sum((name in subset) << bit for bit, name in enumerate(streams))


def perceptron(inputs: int, *, feature: int, classes: int, dropout: float) -> tuple[nn.Sequential, nn.Sequential]:
    """Two layers: (B, inputs) → (B, 2 D), the hidden one, and (B, 2 D) → (B, K)."""
    hidden = nn.Sequential(nn.Linear(inputs, 2 * feature), nn.ReLU(inplace=True))
    return hidden, nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * feature, classes))
