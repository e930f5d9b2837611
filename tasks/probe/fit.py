"""Fitting a linear probe: cross-entropy of classes, concordance of numbers, and a penalty on the coefficients."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

STEPS = 100
LEAST = 1e-6  # deviation, of a feature that does not change


def concordance(predicted: Tensor, truth: Tensor) -> Tensor:
    """The concordance correlation coefficient of each column (Lin, Biometrics 1989), (N, K) and (N, K) → (K,).

    1 is perfect; unlike correlation it also falls by a wrong mean or spread. As a loss: 1 - concordance.
    """
    mean, true_mean = predicted.mean(dim=0), truth.mean(dim=0)
    away, true_away = predicted - mean, truth - true_mean
    covariance = (away * true_away).mean(dim=0)
    return 2 * covariance / ((away**2 + true_away**2).mean(dim=0) + (mean - true_mean) ** 2).clamp(min=1e-12)


def fit(features: np.ndarray, values: np.ndarray, *, classes: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (D, K) and constants (K,), by L-BFGS.

    features: (N, D), each of mean 0 and deviation 1. values: (N,) classes, which count alike however rare they are,
    or (N, K) numbers with classes = 0. The loss is a mean over samples, the penalty half the sum of squares, times
    `penalty`.
    """
    x, y = torch.from_numpy(features).double(), torch.from_numpy(values)
    if classes:
        counts = torch.bincount(y, minlength=classes)
        share = torch.where(counts > 0, len(y) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0).double()
        start = torch.zeros(classes, dtype=torch.float64)
    else:
        y = y.double()
        start = y.mean(dim=0)
    weights = torch.zeros(x.shape[1], len(start), dtype=torch.float64, requires_grad=True)
    constants = start.clone().requires_grad_()
    shape = {"max_iter": STEPS, "tolerance_grad": 1e-5, "tolerance_change": 1e-7, "line_search_fn": "strong_wolfe"}
    step = torch.optim.LBFGS([weights, constants], **shape)

    def loss() -> Tensor:
        step.zero_grad()
        answer = x @ weights + constants
        if classes:
            found = (cross_entropy(answer, y, reduction="none") * share[y]).mean()
        else:
            found = (1 - concordance(answer, y)).mean()
        found = found + penalty / 2 * (weights**2).sum()
        found.backward()
        return found

    step.step(loss)
    return weights.detach().numpy(), constants.detach().numpy()


def scale_of(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature, (D,) and (D,), over the samples that have it."""
    return np.nanmean(features, axis=0), np.maximum(np.nanstd(features, axis=0), LEAST)


def scaled(features: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(N, D) in deviations from the mean. What is absent is zero: a linear probe adds nothing for it."""
    return np.nan_to_num((features - mean) / spread)
