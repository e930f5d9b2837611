"""What a head fits on validation answers, beside what it learns in training."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fusion.heads.mean import Weighted
from fusion.model import FusionModel
from fusion.predict import answer
from fusion.weighting import fit_weighting, log_probabilities
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
    if not isinstance(head, Weighted):
        return
    head.set_weights(dict.fromkeys(head.streams, 1.0), temperature=1.0)
    alone = [(name,) for name in head.streams]
    answers = answer(model, batches, alone, videos=len(labels), classes=classes, device=device)
    answers.join(add_up)
    logits = {name: log_probabilities(answers.probabilities(subset_name((name,)))) for name in head.streams}
    present = {name: answers.answered(subset_name((name,))) for name in head.streams}
    fitted = fit_weighting(logits, present, labels)
    head.set_weights(fitted.weights, fitted.temperature)
