"""Honest answers on the very videos that something is fitted on."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fusion.heads.encoding import Mask, Parts

FOLDS = 5
Fitted = Callable[[Parts, Mask], Tensor]  # {(N, K)}, {(N,)} → (N, K) log-probabilities
Fitter = Callable[[Parts, Mask, Tensor], Fitted]  # the same and (N,) labels → what was fitted


def cross_fit(fitter: Fitter, logits: Parts, present: Mask, labels: Tensor, units: Sequence[int]) -> Fitted | None:
    """Fit in FOLDS parts, each on the rows of the others (Stone 1974): {(N, K)}, {(N,)}, (N,), units of N rows → Fitted

    What comes back answers these same rows, with their streams or with fewer, from fits that have not seen them. Rows
    of one unit stay together. None if there is one unit only.
    """
    _, of = np.unique(np.asarray(units), return_inverse=True)
    count = int(of.max(initial=-1)) + 1
    if count < 2:
        return None
    fold = torch.from_numpy(np.random.default_rng(0).permutation(count) % FOLDS)[torch.from_numpy(of)]
    parts = [fold == number for number in fold.unique()]
    fits = [fitter(_rows(logits, ~here), _rows(present, ~here), labels[~here]) for here in parts]

    def answer(logits: Parts, present: Mask) -> Tensor:
        answers = torch.zeros_like(next(iter(logits.values())), dtype=torch.float64)
        for here, fitted in zip(parts, fits, strict=True):
            answers[here] = fitted(_rows(logits, here), _rows(present, here))
        return answers

    return answer


def _rows(parts: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: part[rows] for name, part in parts.items()}
