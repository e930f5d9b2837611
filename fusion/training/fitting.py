"""Fitting a head's parameters on validation answers, after its training."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from fusion.answers import predict_videos
from fusion.heads.crossfit import cross_fit
from fusion.heads.weighted import log_probabilities
from fusion.model import FusionModel
from streams.batch import Batch
from streams.registry import subset_name


def fit_head(
    model: FusionModel,
    batches: Iterable[Batch],
    labels: Tensor,
    units: Sequence[int],
    *,
    subsets: Sequence[tuple[str, ...]],
    device: torch.device,
    add_up: Callable[[Tensor], object],
) -> dict[str, Tensor]:
    """Fit the model's head on the videos of `batches`; heads without a fitter are left unchanged.

    labels: (N,), of all videos; units: the unit of each, for videos that belong together; `add_up` sums a tensor over
    the processes, each of which has some of the videos. Returns for each of the subsets (N, K), the head's cross-fitted
    probabilities: for each video from a fit on others, since a fit is too good on its own videos; zeros without an
    answer. Empty if nothing is fitted, or there is only one unit.
    """
    head = model.head
    if not hasattr(head, "fitter"):
        return {}
    head.forget()
    alone = [(name,) for name in head.streams]
    answers = predict_videos(model, batches, alone, videos=len(labels), classes=model.classes, device=device)
    answers.join(add_up)
    logits = {name: log_probabilities(answers.probabilities(subset_name((name,)))) for name in head.streams}
    present = {name: answers.answered(subset_name((name,))) for name in head.streams}
    head.take(head.fitter(logits, present, labels))
    honest = cross_fit(head.fitter, logits, present, labels, units)
    if honest is None:
        return {}
    found = {}
    for subset in subsets:
        shown = {name: mask & (name in subset) for name, mask in present.items()}
        there = torch.stack([*shown.values()]).any(dim=0)
        found[subset_name(subset)] = honest(logits, shown).exp() * there[:, None]
    return found
