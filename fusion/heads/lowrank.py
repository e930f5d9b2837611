"""Fusion by the product of all streams' features, with few parameters."""

import math

import torch
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, StreamOutputs, visible

RANK = 8  # number of products that are averaged


class LowRank(Head):
    """Low-rank multimodal fusion (Liu et al. 2018, section 3.2).

    The outer product of all [x_i, 1] holds the products of any of the streams' features; a linear map of it with a
    tensor of weights Σ_r w_1r ⊗ … ⊗ w_nr / R is h = Σ_r Π_i (w_ir · [x_i, 1]) / R. An absent stream's factor is 1. At
    first all factors are near 1, so that h is about the sum of the streams: a product of small factors would vanish.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.factors = nn.ParameterDict({name: _near_one(feature) for name in channels})
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature, classes))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """features {(B, D)}, present {(B,)} → (B, D); ones where no stream is present"""
        product = 1.0
        for name, shown in zip(self.streams, visible(outputs.features, present, self.streams), strict=True):
            extended = torch.cat([self.dropout(shown), shown.new_ones(shown.shape[0], 1)], dim=1)
            factor = torch.einsum("bi,rid->brd", extended, self.factors[name])
            product = product * factor.masked_fill(~present[name][:, None, None], 1.0)
        return product.mean(dim=1)


def _near_one(feature: int) -> nn.Parameter:
    """(R, D + 1, D): small weights, and ones for the constant, the last input."""
    weights = torch.randn(RANK, feature + 1, feature) / math.sqrt(feature)
    weights[:, -1] = 1.0
    return nn.Parameter(weights)
