"""Each stream's confidence in the right class, by its own head, and the ratio to the others'."""

import torch
from torch import Tensor

from fusion.heads.head import Mask
from fusion.model import Output
from fusion.training.loss import Counts
from fusion.training.ranks import Ranks

Confidences = dict[str, Tensor]  # stream → (), for streams in any row


class ConfidenceMeter:
    """The mean probability that each stream's own head gives to the right class, over a whole batch."""

    def __init__(self) -> None:
        self._parts: list[Confidences] = []

    @torch.no_grad()
    def add(self, output: Output, targets: Tensor, present: Mask, counts: Counts) -> None:
        """Add a part of a batch that has `counts` rows in all. targets: (B, K), present: {(B,)}"""
        part = {}
        for name in (name for name in present if counts[name]):
            right = (output.streams.logits[name].float().softmax(dim=1) * targets).sum(dim=1)
            part[name] = (right * present[name]).sum() / counts[name]
        self._parts.append(part)

    def read(self, ranks: Ranks) -> Confidences:
        """The means over all parts in all ranks since the last call."""
        parts, self._parts = self._parts, []
        if not parts[0]:
            return {}
        sums = ranks.add_up(torch.stack([sum(part[name] for part in parts) for name in parts[0]]))
        return dict(zip(parts[0], sums, strict=True))


def ratios(confidences: Confidences) -> Confidences:
    """Each stream's confidence divided by the mean of the others'; empty if there is only one stream.

    With two streams this is the ratio of Peng et al. (2022, equation 8).
    """
    found = {}
    for name, own in confidences.items():
        others = [other for key, other in confidences.items() if key != name]
        if others:
            found[name] = own / (sum(others) / len(others)).clamp(min=torch.finfo(torch.float32).tiny)
    return found
