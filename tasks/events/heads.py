"""Temporal heads: window features of each stream over minutes → classes and extents of events at every point of time.

All answer in the same form, so that loss, decoding and the ablation are shared: at each point of one or more levels,
the evidence for each class, and how far it is from there to the begin and the end of the event (anchor-free; Zhang et
al. 2022, ActionFormer, section 3.3). Streams meet late: each has its own layers; the sum of those present goes on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 12.0  # exp of it bounds an extent, in strides
PRIOR = 0.02  # share of points at which a class is found before anything is learned (Lin et al. 2017, section 4.1)


@dataclass(frozen=True)
class Level:
    """Points of time at one scale. P is their number, K of classes."""

    logits: Tensor  # (B, P, K)
    extents: Tensor  # (B, P, 2) not negative: windows from the point back to the begin, and on to the end
    stride: int  # windows from one point to the next; the first is at (stride - 1) / 2


class StreamLayers(nn.Module):
    """One stream's features → (B, N, W); zeros where it is absent."""

    def __init__(self, features: int, width: int, *, dropout: float, recurrent: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.project = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, width), nn.GELU())
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True) if recurrent else None

    def standardise(self, features: Tensor) -> None:
        """(N, D): shift and scale by the mean and the deviation of these from now on."""
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(features.std(dim=0).clamp(min=1e-3))

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        """features: (B, N, D), present: (B, N) bool → (B, N, W)"""
        there = present[..., None]
        hidden = self.project((features - self.mean) / self.deviation * there) * there
        return hidden if self.lstm is None else self.lstm(hidden)[0] * there


class TemporalHead(nn.Module):
    """Streams, their sum, a neck of one or more levels, and the answers at each point.

    A subclass makes `levels` in forward_levels.
    """

    strides: tuple[int, ...] = (1,)
    recurrent = False
    usual = 12.0  # strides from a point to an end of its event, before anything is learned

    def __init__(self, features: Mapping[str, int], *, classes: int, width: int, dropout: float) -> None:
        """features: stream → D"""
        super().__init__()
        shape = {"dropout": dropout, "recurrent": self.recurrent}
        self.streams = nn.ModuleDict({name: StreamLayers(size, width, **shape) for name, size in features.items()})
        self.norm = nn.LayerNorm(width)
        self.classify = _Answers(width, classes, dropout=dropout)
        self.extend = _Answers(width, 2, dropout=dropout)
        self.scales = nn.Parameter(torch.full((len(self.strides),), math.log(self.usual)))
        nn.init.constant_(self.classify.out.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> list[Level]:
        """stream → (B, N, D), stream → (B, N) bool, both for any of the streams; N is a multiple of the last stride.

        Where several streams are there, their sum is divided by the root of their number: its size stays.
        """
        hidden = sum(self.streams[name](features[name], present[name]) for name in features)
        count = sum(there.float() for there in present.values()).clamp(min=1)
        fused = self.norm(hidden / count.sqrt()[..., None])
        levels = []
        for stride, scale, level in zip(self.strides, self.scales, self.levels(fused), strict=True):
            extents = torch.exp((self.extend(level) + scale).clamp(max=LONGEST)) * stride
            levels.append(Level(self.classify(level), extents, stride))
        return levels

    def levels(self, fused: Tensor) -> list[Tensor]:
        """(B, N, W) → for each stride (B, N / stride, W)"""
        raise NotImplementedError


class LstmHead(TemporalHead):
    """An LSTM for each stream over the whole video, in both directions, and their sum."""

    recurrent = True

    def __init__(self, features: Mapping[str, int], *, classes: int, width: int, dropout: float) -> None:
        super().__init__(features, classes=classes, width=width, dropout=dropout)
        self.over_time = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def levels(self, fused: Tensor) -> list[Tensor]:
        return [fused + self.over_time(fused)[0]]


class TcnHead(TemporalHead):
    """Dilated convolutions, each sees twice as far as the one before (Lea et al. 2017; residual as in Farha and Gall
    2019, MS-TCN).
    """

    dilations = (1, 2, 4, 8, 16, 32)

    def __init__(self, features: Mapping[str, int], *, classes: int, width: int, dropout: float) -> None:
        super().__init__(features, classes=classes, width=width, dropout=dropout)
        self.layers = nn.ModuleList(_Residual(width, dilation, dropout=dropout) for dilation in self.dilations)

    def levels(self, fused: Tensor) -> list[Tensor]:
        for layer in self.layers:
            fused = layer(fused)
        return [fused]


class MultiscaleHead(TemporalHead):
    """A pyramid over time: long events are found at coarse levels, short ones at fine (ActionFormer, section 3.2).

    Self-attention sees the whole of a level from the third on; the finest have convolutions, which suffice for what is
    near and cost less.
    """

    strides = (1, 2, 4, 8, 16, 32)
    usual = 3.0
    attending = 2  # the first level with attention

    def __init__(self, features: Mapping[str, int], *, classes: int, width: int, dropout: float) -> None:
        super().__init__(features, classes=classes, width=width, dropout=dropout)
        self.stem = nn.ModuleList(_Residual(width, dilation, dropout=dropout) for dilation in (1, 2))
        self.pyramid = nn.ModuleList(
            _Attention(width, dropout=dropout) if number >= self.attending else _Residual(width, 1, dropout=dropout)
            for number in range(len(self.strides))
        )

    def levels(self, fused: Tensor) -> list[Tensor]:
        for layer in self.stem:
            fused = layer(fused)
        found = []
        for number, layer in enumerate(self.pyramid):
            if number:
                fused = rearrange(F.max_pool1d(rearrange(fused, "b n w -> b w n"), 2), "b w n -> b n w")
            fused = layer(fused)
            found.append(fused)
        return found


HEADS: dict[str, type[TemporalHead]] = {"lstm": LstmHead, "tcn": TcnHead, "multiscale": MultiscaleHead}


class _Answers(nn.Module):
    """Two convolutions over time and a linear map."""

    def __init__(self, width: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, outputs)

    def forward(self, level: Tensor) -> Tensor:
        """(B, P, W) → (B, P, outputs)"""
        for convolution, norm in zip(self.layers, self.norms, strict=True):
            level = F.gelu(norm(_over_time(convolution, level)))
        return self.out(self.dropout(level))


class _Residual(nn.Module):
    """x + W₂ gelu(norm(dilated W₁ x))"""

    def __init__(self, width: int, dilation: int, *, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        """(B, N, W) → (B, N, W)"""
        return values + self.out(self.norm(_over_time(self.convolution, values)))


class _Attention(nn.Module):
    """A pre-norm Transformer layer; a convolution over neighbours stands for positions."""

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.near = _Residual(width, 1, dropout=dropout)
        self.layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, values: Tensor) -> Tensor:
        """(B, N, W) → (B, N, W)"""
        return self.layer(self.near(values))


def _over_time(convolution: nn.Conv1d, values: Tensor) -> Tensor:
    """(B, N, W) → (B, N, W)"""
    return rearrange(convolution(rearrange(values, "b n w -> b w n")), "b w n -> b n w")
