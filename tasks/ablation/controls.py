"""What joint training has to beat: the opinions of models that were trained on one stream each, put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion.answers import Answers
from fusion.heads.crossfit import cross_fit
from fusion.heads.stacking import fit_stacking
from fusion.heads.weighting import fit_weighting, log_probabilities

FITTERS = {"weighted": fit_weighting, "stacked": fit_stacking}


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


def fitted_opinion(how: str, alone: dict[str, Opinion], held: dict[str, Opinion], labels: Tensor) -> Opinion:
    """The opinions `alone` put together as one of FITTERS says that was fitted on the same models' opinions `held` and
    (N,) labels.
    """
    return _answer(FITTERS[how](*_logarithms(held), labels)(*_logarithms(alone)), alone)


def cross_fitted_opinion(how: str, alone: dict[str, Opinion], labels: Tensor, units: Sequence[int]) -> Opinion | None:
    """The same where there are no other videos to fit on: each part of them as fitted on the others. Videos of one unit
    stay together. None if there is one unit only.
    """
    said = _logarithms(alone)
    fitted = cross_fit(FITTERS[how], *said, labels, units)
    return None if fitted is None else _answer(fitted(*said), alone)


def _answer(logarithms: Tensor, alone: dict[str, Opinion]) -> Opinion:
    answered = torch.stack([one.answered for one in alone.values()]).any(dim=0)
    return Opinion(logarithms.exp() * answered[:, None], answered)


def _logarithms(alone: dict[str, Opinion]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    logits = {name: log_probabilities(one.probabilities) for name, one in alone.items()}
    return logits, {name: one.answered for name, one in alone.items()}
