"""Late fusion by concatenation."""

from torch import Tensor, nn

from fusion.heads.encoding import Mask, StreamOutputs, joined, perceptron


class Concat(nn.Module):
    """The features side by side, and a two-layer perceptron.

    An absent stream's place holds zeros, and a flag says that it is absent.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        self.layers = perceptron(len(channels) * (feature + 1), feature=feature, classes=classes, dropout=dropout)

    def forward(self, encoding: StreamOutputs, present: Mask) -> Tensor:
        """features {(B, D)}, present {(B,)} → (B, K)"""
        return self.layers(joined(encoding.features, present, self.streams))
