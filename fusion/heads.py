"""Fusion heads: the features and opinions of the streams that are there, in; one answer, out."""

import torch
from torch import Tensor, nn

Features = dict[str, Tensor]  # stream → (B, D) features or (B, K) logits
Mask = dict[str, Tensor]  # stream → (B,) bool


class Concat(nn.Module):
    """Late fusion by concatenation and a two-layer perceptron.

    An absent stream's place holds zeros, and a flag says that it is absent.
    """

    def __init__(self, *, streams: tuple[str, ...], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = streams
        self.layers = nn.Sequential(
            nn.Linear(len(streams) * (feature + 1), 2 * feature),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(2 * feature, classes),
        )

    def forward(self, features: Features, logits: Features, present: Mask) -> Tensor:
        """{(B, D)}, {(B, K)}, {(B,)} → (B, K)"""
        flags = torch.stack([present[name] for name in self.streams], dim=1)
        parts = [features[name].masked_fill(~present[name][:, None], 0.0) for name in self.streams]
        return self.layers(torch.cat([*parts, flags.to(parts[0].dtype)], dim=1))


class Mean(nn.Module):
    """The mean of the present streams' own logits: nothing is learned here."""

    def __init__(self, *, streams: tuple[str, ...], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = streams

    def forward(self, features: Features, logits: Features, present: Mask) -> Tensor:
        """{(B, D)}, {(B, K)}, {(B,)} → (B, K); zeros where no stream is present"""
        total = sum(logits[name].masked_fill(~present[name][:, None], 0.0) for name in self.streams)
        count = torch.stack([present[name] for name in self.streams]).sum(dim=0).clamp(min=1)
        return total / count[:, None]


HEADS = {"concat": Concat, "mean": Mean}
