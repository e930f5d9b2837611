"""Metrics of answers. All rates are between 0 and 1."""

import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

CALIBRATION_BINS = 15


def score(probabilities: torch.Tensor, labels: torch.Tensor, answered: torch.Tensor, classes: list[str]) -> dict:
    """The metrics of the answers from one subset of the streams.

    probabilities: (N, K), labels: (N,), answered: (N,) bool. A video that has none of the subset's streams gets no
    answer; it counts as wrong in every rate but `top1_answered` and `calibration_error`, which are over the given
    answers. `top5` is top-K if there are fewer than five classes. Macro F1 and the unweighted average recall (UAR), the
    mean of the classes' top-1, are over the classes that occur in `labels`; the calibration error is the expected one
    (ECE; Guo et al. 2017) with 15 bins.
    """
    ranked = probabilities.argsort(dim=1, descending=True)
    hits = (ranked == labels[:, None]) & answered[:, None]
    right = hits[:, 0]
    count = len(classes)
    per_class = {
        name: {"videos": int((labels == row).sum()), "top1": right[labels == row].double().mean().item()}
        for row, name in enumerate(classes)
        if (labels == row).any()
    }
    given = probabilities[answered]
    # an extra class, after the last, stands for no answer
    predicted = torch.where(answered, ranked[:, 0], count)
    f1 = multiclass_f1_score(predicted, labels, num_classes=count + 1, average=None)[labels.unique()]
    return {
        "videos": len(labels),
        "answered": int(answered.sum()),
        "top1": right.double().mean().item(),
        "top5": hits[:, :5].any(dim=1).double().mean().item(),
        "macro_f1": f1.double().mean().item(),
        "uar": sum(one["top1"] for one in per_class.values()) / max(1, len(per_class)),
        "top1_answered": right[answered].double().mean().item() if len(given) else 0.0,
        "calibration_error": _calibration_error(given, labels[answered]) if len(given) else 0.0,
        "per_class": per_class,
    }


def _calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    if probabilities.shape[1] == 1:
        return 0.0  # there is only one class
    error = multiclass_calibration_error(
        probabilities.float(), labels, num_classes=probabilities.shape[1], n_bins=CALIBRATION_BINS
    )
    return error.item()


def confusion(probabilities: torch.Tensor, labels: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
    """(N, K), (N,), (N,) → (K, K) counts: row is the truth, column the answer; unanswered videos are left out."""
    count = probabilities.shape[1]
    cells = labels[answered] * count + probabilities[answered].argmax(dim=1)
    return torch.bincount(cells, minlength=count**2).reshape(count, count)
