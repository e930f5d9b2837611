"""Late fusion by a weighted mean of the streams' own logits."""

import torch
from torch import Tensor, nn

from fusion.heads.encoding import Encoding, Mask
from fusion.heads.mean import weighted_mean
from fusion.heads.weighting import Weighting, fit_weighting


class Weighted(nn.Module):
    """A weight a stream and a temperature for all, fitted on validation answers.

    In training it is the mean; fusion.fitting sets the weights, which are buffers: saved with the model, not learned
    from the clips that the streams were trained on and are too sure of.
    """

    fitter = staticmethod(fit_weighting)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.register_buffer("weights", torch.ones(len(channels)))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, encoding: Encoding, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        weights = torch.ones_like(self.weights) if self.training else self.weights
        mean = weighted_mean(encoding.logits, present, dict(zip(self.streams, weights, strict=True)))
        return mean if self.training else mean / self.temperature

    def forget(self) -> None:
        """All streams weigh the same."""
        self.set_weights(dict.fromkeys(self.streams, 1.0), 1.0)

    def take(self, weighting: Weighting) -> None:
        """Answer with these weights."""
        self.set_weights(weighting.weights, weighting.temperature)

    def set_weights(self, weights: dict[str, float], temperature: float) -> None:
        """Of the weights only the ratios count."""
        self.weights.copy_(torch.tensor([weights[name] for name in self.streams]))
        self.temperature.fill_(temperature)
