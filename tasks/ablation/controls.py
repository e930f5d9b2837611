"""Controls for joint training: combined probabilities of models that were trained on one stream each."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.heads.crossfit import cross_fit
from fusion.heads.stacked import fit_stacking
from fusion.heads.weighted import fit_weighting, log_probabilities
from tasks.probabilities import Probabilities

FITTERS = {"weighted": fit_weighting, "stacked": fit_stacking}


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
