"""The losses: cross-entropy of the fused answer and of each stream's own."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.model import Output

FUSED = ""  # the name of the fused answer among the counts of rows

Counts = dict[str, float]  # FUSED or a stream → rows of the whole batch, over all ranks, that have it
Losses = dict[str, Tensor]  # FUSED or a stream → (), the mean over these rows


def count_rows(present: dict[str, Tensor]) -> dict[str, int]:
    """The number of rows that have any stream, and that have each. present: {(B,) bool}."""
    masks = list(present.values())
    anything = masks[0].clone()
    for mask in masks[1:]:
        anything |= mask
    return {FUSED: int(anything.sum()), **{name: int(mask.sum()) for name, mask in present.items()}}


def each_loss(
    output: Output, labels: Tensor, present: dict[str, Tensor], counts: Counts, *, label_smoothing: float = 0.0
) -> Losses:
    """Cross-entropy of the fused answer, over the clips that have any stream, and each stream's own, where present.

    labels: (B,) classes or (B, K) targets, present: {(B,) bool}. These rows may be a part of a larger batch with
    `counts` rows: the losses of its parts add up to the whole batch's.
    """

    def own(logits: Tensor, mask: Tensor, name: str) -> Tensor:
        losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
        return (losses * mask).sum() / max(1.0, counts[name])

    anything = sum(mask.float() for mask in present.values()) > 0
    fused = own(output.logits, anything, FUSED)
    return {FUSED: fused} | {name: own(output.streams.logits[name], mask, name) for name, mask in present.items()}


def joint_loss(losses: Losses, *, auxiliary: float) -> Tensor:
    """The fused loss, plus `auxiliary` times the mean of the streams' own."""
    own = [loss for name, loss in losses.items() if name != FUSED]
    return losses[FUSED] + auxiliary / len(own) * sum(own)


@torch.no_grad()
def answer_sums(output: Output, targets: Tensor, present: dict[str, Tensor]) -> Tensor:
    """What validation measures, of a training batch, over its clips that have any stream: → (2,) float64

    The sum of the fused answer's negative log-likelihood, without label smoothing, and the number of right answers. Of
    a mixed clip the likelihood is of the mixed target, and the answer is right that names its larger share.
    targets: (B, K), present: {(B,)}
    """
    anything = torch.stack([*present.values()]).any(dim=0)
    losses = cross_entropy(output.logits.float(), targets, reduction="none")
    right = output.logits.argmax(dim=1) == targets.argmax(dim=1)
    return torch.stack([torch.where(anything, losses, 0.0).sum(), (right & anything).sum()]).double()
