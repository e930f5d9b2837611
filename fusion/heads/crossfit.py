"""Cross-fitting: unbiased answers for the same videos that a fit uses."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fusion.heads.head import Mask, Parts

FOLDS = 5  # at the most
Fitted = Callable[[Parts, Mask], Tensor]  # {(N, K)}, {(N,)} → (N, K) log-probabilities
Fitter = Callable[[Parts, Mask, Tensor], Fitted]  # the same and (N,) labels → the fitted function


def cross_fit(fitter: Fitter, logits: Parts, present: Mask, labels: Tensor, units: Sequence[int]) -> Fitted | None:
    """Fit in parts, each on the rows of the others (Stone 1974): {(N, K)}, {(N,)}, (N,), units of N rows → Fitted

    The result answers these same rows, with their streams or with fewer, from fits that have not seen them. None if
    there is only one unit.
    """
    fold = torch.from_numpy(folds_of(labels.numpy(), np.asarray(units)))
    if len(fold.unique()) < 2:
        return None
    parts = [fold == number for number in fold.unique()]
    fits = [fitter(_rows(logits, ~here), _rows(present, ~here), labels[~here]) for here in parts]

    def answer(logits: Parts, present: Mask) -> Tensor:
        answers = torch.zeros_like(next(iter(logits.values())), dtype=torch.float64)
        for here, fitted in zip(parts, fits, strict=True):
            answers[here] = fitted(_rows(logits, here), _rows(present, here))
        return answers

    return answer


def folds_of(labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(N,), (N,) → (N,), each row's fold: rows of one unit stay together, and each class is spread evenly over folds.

    A fit that lacks videos of the very classes of its own fold would take these for rare.
    There are FOLDS folds, or as many as the class with the fewest units has units, but at least two.
    """
    names, of = np.unique(units, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    classes = np.array([np.bincount(labels[of == unit]).argmax() for unit in order], dtype=int)
    fewest = min(np.unique(classes, return_counts=True)[1], default=0)
    by_class = order[classes.argsort(kind="stable")]
    fold = np.empty(len(names), dtype=int)
    fold[by_class] = np.arange(len(names)) % min(FOLDS, max(2, fewest))
    return fold[of]


def _rows(parts: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: part[rows] for name, part in parts.items()}
