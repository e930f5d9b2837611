"""Fusion by gates that depend on all streams."""

import torch
from torch import Tensor, nn

from fusion.heads.head import Head, Mask, StreamOutputs, joined, visible


class Gated(Head):
    """Gated multimodal units, then context gating.

    Arevalo et al. 2017, figure 2a, for any number of streams: h_i = tanh(W_i x_i), z_i = σ(V_i [x_1, …, x_n]) and
    h = Σ z_i ∘ h_i, over the present streams. Miech et al. 2017: y = σ(U h) ∘ h. All with a bias.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.units = nn.ModuleDict({name: nn.Linear(feature, feature) for name in channels})
        self.gates = nn.ModuleDict({name: nn.Linear(len(channels) * (feature + 1), feature) for name in channels})
        self.context = nn.Linear(feature, feature)
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature, classes))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """features {(B, D)}, present {(B,)} → (B, D)"""
        fused = self.join(outputs, present)
        return torch.sigmoid(self.context(fused)) * fused

    def join(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """→ (B, D), before context gating; zeros where no stream is present"""
        everything = joined(outputs.features, present, self.streams)
        shown = dict(zip(self.streams, visible(outputs.features, present, self.streams), strict=True))
        units = {
            name: torch.sigmoid(self.gates[name](everything)) * torch.tanh(self.units[name](shown[name]))
            for name in self.streams
        }
        return sum(visible(units, present, self.streams))
