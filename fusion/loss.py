"""What is minimised."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.model import Output

FUSED = ""  # the name of the fused answer among the counts of rows

Counts = dict[str, float]  # FUSED or a stream → rows of the whole batch, over all ranks, that have it


def count_rows(present: dict[str, Tensor]) -> dict[str, int]:
    """How many rows have any stream, and how many each. present: {(B,) bool}."""
    masks = list(present.values())
    anything = masks[0].clone()
    for mask in masks[1:]:
        anything |= mask
    return {FUSED: int(anything.sum()), **{name: int(mask.sum()) for name, mask in present.items()}}


def joint_loss(
    output: Output,
    labels: Tensor,
    present: dict[str, Tensor],
    counts: Counts,
    *,
    auxiliary: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the fused answer, plus the mean of each stream's own over the clips that have it.

    labels: (B,), present: {(B,) bool}. These rows may be a part of a larger batch with `counts` rows: the losses of
    its parts add up to the whole batch's.
    """

    def own(logits: Tensor, mask: Tensor, name: str) -> Tensor:
        losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
        return (losses * mask).sum() / max(1.0, counts[name])

    anything = sum(mask.float() for mask in present.values()) > 0
    loss = own(output.logits, anything, FUSED)
    streams = sum(own(output.streams.logits[name], mask, name) for name, mask in present.items())
    return loss + auxiliary / len(present) * streams
