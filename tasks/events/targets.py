"""What a temporal head should answer at each point, and how far it is from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.events.heads import Level

SMALLEST = 4  # a level is for events of 4 to 8 of its strides; the first also for shorter, the last for longer ones
NEAR = 1.5  # strides: points this near to an event's middle answer for it (Tian et al. 2019, FCOS; ActionFormer)
INNER = 0.3  # or, of a longer event, within this share of its length from the middle
FOCUS = 2.0  # γ of the focal loss (Lin et al. 2017, eq. 4)
POSITIVE = 0.5  # α of it: 0.5 keeps a score of one half the point where yes and no are equally likely


@dataclass(frozen=True)
class Targets:
    """Of one level; P is the number of its points."""

    classes: Tensor  # (P, K) 0 or 1
    extents: Tensor  # (P, 2) windows back to the begin, on to the end; of the shortest event where several are
    inside: Tensor  # (P,) bool: the point answers for an event


def targets(
    events: np.ndarray, labels: Sequence[int], *, windows: int, strides: Sequence[int], classes: int
) -> list[Targets]:
    """events: (E, 2) begin and end in windows, labels: E of `classes` → the targets of each level."""
    found = []
    for number, stride in enumerate(strides):
        points = np.arange(windows // stride) * stride + (stride - 1) / 2
        classed, extents = np.zeros((len(points), classes), np.float32), np.zeros((len(points), 2), np.float32)
        shortest = np.full(len(points), np.inf)
        least = 0 if number == 0 else SMALLEST * stride
        most = np.inf if number + 1 == len(strides) else 2 * SMALLEST * stride
        for (begin, end), label in zip(events, labels, strict=True):
            length, middle = end - begin, (begin + end) / 2
            if not least <= length < most:
                continue
            near = np.abs(points - middle) <= max(NEAR * stride, INNER * length)
            near &= (points >= begin) & (points <= end)
            if not near.any():  # shorter than a stride, between two points
                near[np.abs(points - middle).argmin()] = True
            classed[near, label] = 1
            first = near & (length < shortest)
            extents[first] = np.stack([points - begin, end - points], axis=1)[first].clip(min=0)
            shortest[first] = length
        inside = torch.from_numpy(np.isfinite(shortest))
        found.append(Targets(torch.from_numpy(classed), torch.from_numpy(extents), inside))
    return found


def loss(levels: Sequence[Level], wanted: Sequence[Targets], known: Tensor) -> Tensor:
    """The focal loss of the classes and the distance-IoU loss of the extents, by the number of points that answer.

    wanted: of each level, batched, (B, P, …); known: (B, N) bool, False for what was added to fill up a batch.
    """
    classed, extended, count = 0.0, 0.0, 0.0
    for level, want in zip(levels, wanted, strict=True):
        inside, real = want.inside, known[:, level.stride - 1 :: level.stride]
        classed = classed + (focal(level.logits, want.classes) * real[..., None]).sum()
        extended = extended + distance_iou(level.extents[inside], want.extents[inside]).sum()
        count = count + inside.sum()
    return (classed + extended) / count.clamp(min=1)


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """The focal loss of each entry (Lin et al. 2017, eq. 5)."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    right = torch.exp(-entropy)
    return (POSITIVE * wanted + (1 - POSITIVE) * (1 - wanted)) * (1 - right) ** FOCUS * entropy


def distance_iou(extents: Tensor, wanted: Tensor) -> Tensor:
    """1 - IoU + (distance of the middles / length of both together)², (P, 2), (P, 2) → (P,) (Zheng et al. 2020)."""
    shared = torch.minimum(extents, wanted).sum(dim=-1)
    union = extents.sum(dim=-1) + wanted.sum(dim=-1) - shared
    around = torch.maximum(extents, wanted).sum(dim=-1)
    apart = ((extents[:, 1] - extents[:, 0]) - (wanted[:, 1] - wanted[:, 0])) / 2
    return 1 - shared / union.clamp(min=1e-6) + (apart / around.clamp(min=1e-6)) ** 2
