"""Late fusion by stacking: the streams' own opinions, each corrected by what validation answers show of it."""

import torch
from torch import Tensor

from fusion.heads.encoding import Encoding, Mask, visible
from fusion.heads.mean import Mean
from fusion.heads.stacking import Stacking, as_it_is, fit_stacking, said


class Stacked(Mean):
    """An affine map of each present stream's log-probabilities, added up.

    In training it is the mean; fusion.training.fitting fits the maps, which are buffers: saved with the model, not
    learned from the clips that the streams were trained on and know by heart.
    """

    fitter = staticmethod(fit_stacking)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__(channels=channels, feature=feature, classes=classes, dropout=dropout)
        self.register_buffer("maps", torch.eye(classes).repeat(len(channels), 1, 1))
        self.register_buffer("offsets", torch.zeros(len(channels), classes))

    def forward(self, encoding: Encoding, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        if self.training:
            return super().forward(encoding, present)
        corrected = {
            name: said(encoding.logits[name].float()) @ self.maps[row] + self.offsets[row]
            for row, name in enumerate(self.streams)
        }
        return sum(visible(corrected, present, self.streams))

    def forget(self) -> None:
        """Of a single stream, what it says itself."""
        self.take(as_it_is(list(self.streams), self.offsets.shape[1]))

    def take(self, stacking: Stacking) -> None:
        """Answer with these maps."""
        self.maps.copy_(torch.stack([stacking.maps[name] for name in self.streams]))
        self.offsets.copy_(torch.stack([stacking.offsets[name] for name in self.streams]))
