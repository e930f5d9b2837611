"""What a head fits on validation answers, beside what it learns in training."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fusion.heads.weighting import log_probabilities
from fusion.model import FusionModel
from fusion.predict import answer
from streams import subset_name
from streams.batch import Batch


def fit_head(
    model: FusionModel,
    batches: Iterable[Batch],
    labels: Tensor,
    *,
    classes: int,
    device: torch.device,
    add_up: Callable[[Tensor], object],
) -> None:
    """Fit what the model's head fits on the videos of `batches`; heads that only learn are left as they are.

    labels: (N,), of all videos; `add_up` sums a tensor over the processes, each of which has some of them.
    """
    head = model.head
    if not hasattr(head, "fit"):
        return
    head.forget()
    alone = [(name,) for name in head.streams]
    answers = answer(model, batches, alone, videos=len(labels), classes=classes, device=device)
    answers.join(add_up)
    logits = {name: log_probabilities(answers.probabilities(subset_name((name,)))) for name in head.streams}
    present = {name: answers.answered(subset_name((name,))) for name in head.streams}
    head.fit(logits, present, labels)
