"""Late fusion by a weighted mean of the streams' own logits."""

import torch
from torch import Tensor

from fusion.heads.encoding import Encoding, Mask
from fusion.heads.mean import Mean, weighted_mean
from fusion.heads.weighting import Weightings, fit_weightings


class Weighted(Mean):
    """A weight a stream and a temperature, for each combination of streams that is there, fitted on validation answers.

    In training it is the mean; fusion.training.fitting sets the weights, which are buffers: saved with the model, not
    learned from the clips that the streams were trained on and are too sure of.
    """

    fitter = staticmethod(fit_weightings)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__(channels=channels, feature=feature, classes=classes, dropout=dropout)
        combinations = 1 << len(channels)  # row k is for the streams whose bits k has
        self.register_buffer("weights", torch.ones(combinations, len(channels)))
        self.register_buffer("temperatures", torch.ones(combinations))

    def forward(self, encoding: Encoding, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        if self.training:
            return super().forward(encoding, present)
        rows = sum(present[name].long() << bit for bit, name in enumerate(self.streams))
        weights = dict(zip(self.streams, self.weights[rows].unbind(1), strict=True))
        return weighted_mean(encoding.logits, present, weights) / self.temperatures[rows, None]

    def forget(self) -> None:
        """All streams weigh the same."""
        self.weights.fill_(1)
        self.temperatures.fill_(1)

    def take(self, weightings: Weightings) -> None:
        """Answer with these weights."""
        for subset, weighting in weightings.of.items():
            row = sum((name in subset) << bit for bit, name in enumerate(self.streams))
            self.weights[row] = torch.tensor([weighting.weights.get(name, 0.0) for name in self.streams])
            self.temperatures[row] = weighting.temperature
