"""A stream's encoder: its tower, then a model of time that runs one way."""

from typing import NamedTuple

from einops import rearrange
from torch import Tensor, nn

from streams.temporal import TEMPORAL
from streams.towers import create_tower


class EncoderOutput(NamedTuple):
    """An encoder's output for a clip of S segments; T' are the steps of all of them."""

    tower: Tensor  # (B, T', C): the input of the model of time
    sequence: Tensor  # (B, T', D): its output at each time step
    feature: Tensor  # (B, D): their mean


class Encoder(nn.Module):
    """tower → model of time → feature: the mean of its output over time.

    By default an LSTM (Hochreiter and Schmidhuber 1997; Donahue et al. 2015 for recognition in video). Each clip begins
    with an empty state: windows of a long video overlap instead, since the towers are not causal. The tower sees each
    segment of a clip by itself, and the model of time all of them, one after the other. Its weights are called after
    its kind, so that a file of weights tells which it is for.
    """

    def __init__(
        self,
        *,
        tower: str,
        channels: int,
        width: int,
        feature: int,
        dropout: float,
        segments: int = 1,
        temporal: str = "lstm",
    ) -> None:
        super().__init__()
        self.segments, self.feature, self.temporal = segments, feature, temporal
        self.tower = create_tower(tower, channels=channels, width=width)
        self.dropout = nn.Dropout(dropout)
        self.add_module(temporal, TEMPORAL[temporal](self.tower.features, feature, dropout))
        self.frozen = False

    def freeze(self) -> None:
        """Keep the tower's weights and batch norm's statistics from now on, also in training."""
        self.tower.requires_grad_(False)
        self.frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        if self.frozen:
            self.tower.eval()
        return self

    def forward(self, clip: Tensor) -> EncoderOutput:
        """(B, C, S T, H, W) or (B, M, S T) → EncoderOutput"""
        tower = self._in_segments(clip) if self.segments > 1 else self.tower(clip)
        if not clip.shape[0]:  # one of several processes has no rows; an empty sum keeps it in the backward pass
            nothing = tower.new_zeros(0, tower.shape[1], self.feature) + tower.sum()
            return EncoderOutput(tower, nothing, nothing.sum(dim=1))
        sequence, _ = self.get_submodule(self.temporal)(self.dropout(tower))
        return EncoderOutput(tower, sequence, sequence.mean(dim=1))

    def _in_segments(self, clip: Tensor) -> Tensor:
        """(B, C, S T, …) → (B, S T', C)"""
        apart = rearrange(clip, "b c (s t) ... -> (b s) c t ...", s=self.segments)
        return rearrange(self.tower(apart), "(b s) t c -> b (s t) c", s=self.segments)
