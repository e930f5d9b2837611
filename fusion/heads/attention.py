"""Fusion by attention over all moments of all streams."""

import math

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, StreamOutputs, perceptron, visible

PARTS = 4  # heads of the attention, where the feature can be split into so many
WAVES = 4  # sines and cosines that encode a time in the clip


class Attention(Head):
    """A learned query attends to tokens, one for each stream and time step.

    Scaled dot-product attention in several parts (Vaswani et al. 2017, equation 1 and section 3.2.2) with one learned
    query (Lee et al. 2019, section 3.2), then a two-layer perceptron. A token is an LSTM's output through its stream's
    own layer, plus an encoding of its time in the clip, the same for all streams. One of T' tokens counts 1 / T': a
    stream with many time steps has no more weight than others until the query learns to give it.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.parts = math.gcd(PARTS, feature)
        self.embed = nn.ModuleDict({name: _linear(feature) for name in channels})
        self.moment = nn.Linear(2 * WAVES, feature, bias=False)
        self.query = nn.Parameter(torch.randn(feature))
        self.key = _linear(feature)
        self.value = _linear(feature)
        sizes = {"feature": feature, "classes": classes}
        self.hidden, self.classify = perceptron(feature, **sizes, dropout=dropout)

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """sequences {(B, T', D)}, present {(B,)} → (B, 2 D)"""
        return self.hidden(self.attend(*self.tokens(outputs, present)))

    def tokens(self, outputs: StreamOutputs, present: Mask) -> tuple[Tensor, Tensor, Tensor]:
        """→ (B, N, D) tokens of all streams, one stream after the other; (N,) their weight; (B, N) True if present"""
        tokens, weight, there = [], [], []
        for name, sequence in zip(self.streams, visible(outputs.sequences, present, self.streams), strict=True):
            steps = sequence.shape[1]
            tokens.append(self.embed[name](sequence) + self.moment(_moments(sequence)))
            weight.append(sequence.new_full((steps,), 1 / steps))
            there.append(present[name][:, None].expand(-1, steps))
        return torch.cat(tokens, dim=1), torch.cat(weight), torch.cat(there, dim=1)

    def attend(self, tokens: Tensor, weight: Tensor, there: Tensor) -> Tensor:
        """(B, N, D), (N,), (B, N) bool → (B, D); zeros where there is no token"""
        query = rearrange(self.query, "(p d) -> p d", p=self.parts)
        keys = rearrange(self.key(tokens), "b n (p d) -> b p n d", p=self.parts)
        values = rearrange(self.value(tokens), "b n (p d) -> b p n d", p=self.parts)
        scores = einsum(query, keys, "p d, b p n d -> b p n") / math.sqrt(query.shape[1]) + weight.log()
        hidden = ~there[:, None]
        # the smallest number, not minus infinity, which would give NaN where no token is present
        attention = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(dim=2).masked_fill(hidden, 0.0)
        return rearrange(einsum(attention, values, "b p n, b p n d -> b p d"), "b p d -> b (p d)")


def _linear(feature: int) -> nn.Linear:
    """A layer that keeps the variance of its input; with PyTorch's initialisation little of it would be left."""
    layer = nn.Linear(feature, feature)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _moments(sequence: Tensor) -> Tensor:
    """(B, T', D) → (T', 2 · WAVES): the time of each step in the clip, in waves of 2, 1, 1/2 … clips."""
    steps = sequence.shape[1]
    place = (torch.arange(steps, device=sequence.device) + 0.5) / steps - 0.5  # 0: the centre
    phases = math.pi * place[:, None] * 2 ** torch.arange(WAVES, device=sequence.device)
    return torch.cat([phases.sin(), phases.cos()], dim=1).to(sequence.dtype)
