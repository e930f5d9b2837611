"""Weights of the streams and a temperature, fitted on validation answers."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.heads.encoding import Mask, Parts
from fusion.heads.mean import Weighted, weighted_mean
from fusion.model import FusionModel
from fusion.predict import answer
from streams import subset_name
from streams.batch import Batch

PRIOR = 1e-4  # on squared logarithms: keeps a weight that wants to be 0, or a temperature, from running away
STEPS = 200  # of L-BFGS, at the most


def fit_weights(logits: Parts, present: Mask, labels: Tensor) -> tuple[dict[str, float], float]:
    """The weights, whose mean is 1, and the temperature with the least cross-entropy: {(N, K)}, {(N,)}, (N,) → two.

    Videos without any stream do not count. The search begins at equal weights and a temperature of 1, and its result
    has no greater cross-entropy than they have.
    """
    names = list(logits)
    there = torch.stack([present[name] for name in names]).any(dim=0)
    logits = {name: part[there].double() for name, part in logits.items()}
    present, labels = {name: mask[there] for name, mask in present.items()}, labels[there]
    start = torch.zeros(len(names) + 1, dtype=torch.float64, device=labels.device)
    free = start.clone().requires_grad_()

    def settings(free: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        return dict(zip(names, len(names) * free[:-1].softmax(dim=0), strict=True)), free[-1].exp()

    def loss(free: Tensor) -> Tensor:
        weights, temperature = settings(free)
        return cross_entropy(weighted_mean(logits, present, weights) / temperature, labels) + PRIOR * (free**2).sum()

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(free)
        value.backward()
        return value

    search = torch.optim.LBFGS([free], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    if len(labels):
        search.step(closure)
    with torch.no_grad():
        better = len(labels) and loss(free) <= loss(start)  # not where it has become NaN
        weights, temperature = settings(free if better else start)
    return {name: weight.item() for name, weight in weights.items()}, temperature.item()


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
    head.set_weights(dict.fromkeys(head.streams, 1.0), 1.0)
    alone = [(name,) for name in head.streams]
    answers = answer(model, batches, alone, videos=len(labels), classes=classes, device=device)
    answers.join(add_up)
    tiny = torch.finfo(torch.float64).tiny
    # logarithms of probabilities are logits, up to a number a video, which a softmax does not see
    logits = {name: answers.probabilities(subset_name((name,))).clamp(min=tiny).log() for name in head.streams}
    present = {name: answers.answered(subset_name((name,))) for name in head.streams}
    head.set_weights(*fit_weights(logits, present, labels))
