"""What joint training has to beat: the opinions of models that were trained on one stream each, put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion.heads.weighting import Weighting, fit_weighting, log_probabilities
from fusion.predict import Answers

FOLDS = 5


@dataclass(frozen=True)
class Opinion:
    """What a model says of N videos."""

    probabilities: Tensor  # (N, K); zeros where there is no answer
    answered: Tensor  # (N,) bool

    def right(self, labels: Tensor) -> np.ndarray:
        """(N,) → (N,) bool. No answer is a wrong one."""
        return ((self.probabilities.argmax(dim=1) == labels) & self.answered).numpy()


def opinion(answers: Answers, subset: str) -> Opinion:
    """A run's opinion from one subset of its streams."""
    return Opinion(answers.probabilities(subset), answers.answered(subset))


def mean_opinion(alone: dict[str, Opinion]) -> Opinion:
    """The mean of the probabilities of those that have an answer."""
    total = sum(one.probabilities for one in alone.values())
    count = sum(one.answered.double() for one in alone.values())
    return Opinion(total / count.clamp(min=1)[:, None], count > 0)


def weighted_opinion(alone: dict[str, Opinion], held: dict[str, Opinion], labels: Tensor) -> Opinion:
    """The weighted mean of the opinions `alone`, with weights fitted on the same models' opinions `held` and (N,)."""
    return _pooled(alone, fit_weighting(*_logarithms(held), labels))


def cross_fitted_opinion(alone: dict[str, Opinion], labels: Tensor, units: Sequence[int]) -> Opinion | None:
    """The weighted mean where there are no other videos to fit it on: in FOLDS parts, each with weights that were
    fitted on the others. Videos of one unit stay together. None if there is one unit only.
    """
    _, of = np.unique(np.asarray(units), return_inverse=True)
    count = int(of.max()) + 1
    if count < 2:
        return None
    fold = torch.from_numpy(np.random.default_rng(0).permutation(count) % FOLDS)[torch.from_numpy(of)]
    whole = mean_opinion(alone)
    probabilities = torch.zeros_like(whole.probabilities)
    for number in fold.unique():
        here = fold == number
        logits, present = _logarithms({name: _rows(one, ~here) for name, one in alone.items()})
        fitted = fit_weighting(logits, present, labels[~here])
        probabilities[here] = _pooled({name: _rows(one, here) for name, one in alone.items()}, fitted).probabilities
    return Opinion(probabilities, whole.answered)


def _pooled(alone: dict[str, Opinion], weighting: Weighting) -> Opinion:
    logits, present = _logarithms(alone)
    answered = torch.stack([*present.values()]).any(dim=0)
    return Opinion(weighting(logits, present).exp() * answered[:, None], answered)


def _logarithms(alone: dict[str, Opinion]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    logits = {name: log_probabilities(one.probabilities) for name, one in alone.items()}
    return logits, {name: one.answered for name, one in alone.items()}


def _rows(one: Opinion, rows: Tensor) -> Opinion:
    return Opinion(one.probabilities[rows], one.answered[rows])
