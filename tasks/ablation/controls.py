"""Controls for joint training: combined probabilities of models that were trained on one stream each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion.answers import Answers
from fusion.heads.crossfit import cross_fit
from fusion.heads.stacked import fit_stacking
from fusion.heads.weighted import fit_weighting, log_probabilities

FITTERS = {"weighted": fit_weighting, "stacked": fit_stacking}


@dataclass(frozen=True)
class Probabilities:
    """A model's probabilities for N videos."""

    probabilities: Tensor  # (N, K); zeros where there is no answer
    answered: Tensor  # (N,) bool

    def right(self, labels: Tensor) -> np.ndarray:
        """(N,) → (N,) bool. No answer counts as wrong."""
        return ((self.probabilities.argmax(dim=1) == labels) & self.answered).numpy()


def opinion(answers: Answers, subset: str) -> Probabilities:
    """A run's probabilities from one subset of its streams."""
    return Probabilities(answers.probabilities(subset), answers.answered(subset))


def mean_probabilities(alone: dict[str, Probabilities]) -> Probabilities:
    """The mean of the probabilities, over the models that have an answer."""
    total = sum(one.probabilities for one in alone.values())
    count = sum(one.answered.double() for one in alone.values())
    return Probabilities(total / count.clamp(min=1)[:, None], count > 0)


def fitted_probabilities(
    how: str, alone: dict[str, Probabilities], held: dict[str, Probabilities], labels: Tensor
) -> Probabilities:
    """The probabilities `alone`, combined by one of FITTERS that is fitted on the same models' probabilities `held` and
    their (N,) labels.
    """
    return _answer(FITTERS[how](*_logarithms(held), labels)(*_logarithms(alone)), alone)


def cross_fitted_probabilities(
    how: str, alone: dict[str, Probabilities], labels: Tensor, units: Sequence[int]
) -> Probabilities | None:
    """The same without other videos to fit on: cross-fitted, each fold with a fit on the others. Videos of one unit
    stay together. None if there is only one unit.
    """
    said = _logarithms(alone)
    fitted = cross_fit(FITTERS[how], *said, labels, units)
    return None if fitted is None else _answer(fitted(*said), alone)


def _answer(logarithms: Tensor, alone: dict[str, Probabilities]) -> Probabilities:
    answered = torch.stack([one.answered for one in alone.values()]).any(dim=0)
    return Probabilities(logarithms.exp() * answered[:, None], answered)


def _logarithms(alone: dict[str, Probabilities]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    logits = {name: log_probabilities(one.probabilities) for name, one in alone.items()}
    return logits, {name: one.answered for name, one in alone.items()}
