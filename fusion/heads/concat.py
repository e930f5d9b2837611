"""Late fusion by concatenation."""

from torch import Tensor

from fusion.heads.head import Head, Mask, StreamOutputs, joined, perceptron


class Concat(Head):
    """The features side by side, and a two-layer perceptron.

    An absent stream is zeros, with a flag for its absence.
    """

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.streams = tuple(channels)
        sizes = {"feature": feature, "classes": classes}
        self.hidden, self.classify = perceptron(len(channels) * (feature + 1), **sizes, dropout=dropout)

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """features {(B, D)}, present {(B,)} → (B, 2 D)"""
        return self.hidden(joined(outputs.features, present, self.streams))
