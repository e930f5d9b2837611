"""How answers are judged, held against scikit-learn, torchmetrics and counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, top_k_accuracy_score
from torchmetrics.classification import MulticlassCalibrationError

from tasks.metrics import confusion, score

CLASSES = [f"class {k}" for k in range(7)]


def answers(count: int = 200, classes: int = 7, seed: int = 0, sharpness: float = 2.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += 1
    return (sharpness * logits).double().softmax(dim=1), labels


def everything(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(3))
def test_rates_agree_with_scikit_learn(seed):
    probabilities, labels = answers(seed=seed)
    result = score(probabilities, labels, everything(200), CLASSES)
    predicted = probabilities.argmax(dim=1)
    assert result["top1"] == pytest.approx(accuracy_score(labels, predicted))
    expected = top_k_accuracy_score(labels, probabilities, k=5, labels=range(7))
    assert result["top5"] == pytest.approx(expected)
    assert result["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert result["uar"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert result["top1_answered"] == result["top1"] and result["answered"] == result["videos"] == 200
    for row, name in enumerate(CLASSES):
        here = (labels == row).numpy()
        assert result["per_class"][name]["videos"] == here.sum()
        assert result["per_class"][name]["top1"] == pytest.approx((predicted.numpy() == row)[here].mean())


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 6.0])
def test_the_calibration_error_is_the_expected_one_over_fifteen_bins(sharpness):
    probabilities, labels = answers(count=500, sharpness=sharpness)
    result = score(probabilities, labels, everything(500), CLASSES)["calibration_error"]
    confidence, predicted = (part.numpy() for part in probabilities.max(dim=1))
    right = predicted == labels.numpy()
    error = 0.0
    for low in np.arange(15) / 15:
        here = (confidence > low) & (confidence <= low + 1 / 15)
        if here.any():
            error += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert result == pytest.approx(error, abs=1e-4)
    assert result == pytest.approx(MulticlassCalibrationError(7, n_bins=15)(probabilities, labels).item(), abs=1e-4)


def test_a_video_without_an_answer_counts_as_wrong_and_not_as_badly_calibrated():
    probabilities, labels = answers()
    answered = torch.rand(200, generator=torch.Generator().manual_seed(9)) < 0.7
    probabilities[~answered] = 0.0
    result = score(probabilities, labels, answered, CLASSES)
    right = (probabilities.argmax(dim=1) == labels) & answered
    assert result["top1"] == pytest.approx(right.double().mean().item())
    assert result["top1_answered"] == pytest.approx(right[answered].double().mean().item())
    predicted = torch.where(answered, probabilities.argmax(dim=1), -1)
    expected = f1_score(labels, predicted, labels=range(7), average="macro", zero_division=0)
    assert result["macro_f1"] == pytest.approx(expected)
    given = score(probabilities[answered], labels[answered], everything(int(answered.sum())), CLASSES)
    assert result["calibration_error"] == pytest.approx(given["calibration_error"])
    assert result["top5"] == pytest.approx(given["top5"] * answered.double().mean().item())
    assert result["answered"] == answered.sum() and result["videos"] == 200


def test_where_nothing_is_answered_every_rate_is_zero():
    _, labels = answers()
    result = score(torch.zeros(200, 7).double(), labels, ~everything(200), CLASSES)
    for name in ("top1", "top5", "macro_f1", "top1_answered", "calibration_error"):
        assert result[name] == 0


def test_perfect_answers_are_perfect():
    _, labels = answers()
    probabilities = torch.nn.functional.one_hot(labels, 7).double()
    result = score(probabilities, labels, everything(200), CLASSES)
    assert result["top1"] == result["top5"] == result["macro_f1"] == 1
    assert result["calibration_error"] == pytest.approx(0, abs=1e-6)


def test_macro_f1_and_the_classes_listed_are_of_those_that_occur():
    probabilities, labels = answers()
    keep = labels < 3
    result = score(probabilities[keep], labels[keep], everything(int(keep.sum())), CLASSES)
    assert list(result["per_class"]) == CLASSES[:3]
    predicted = probabilities[keep].argmax(dim=1)
    assert result["macro_f1"] == pytest.approx(f1_score(labels[keep], predicted, labels=range(3), average="macro"))


def test_of_three_classes_the_best_five_are_all():
    probabilities, labels = answers(classes=3)
    assert score(probabilities, labels, everything(200), CLASSES[:3])["top5"] == 1


def test_the_confusion_matrix_has_truth_by_answer_and_leaves_out_the_unanswered():
    probabilities, labels = answers()
    answered = torch.arange(200) % 3 > 0
    counts = confusion(probabilities, labels, answered)
    expected = confusion_matrix(labels[answered], probabilities[answered].argmax(dim=1), labels=range(7))
    np.testing.assert_array_equal(counts.numpy(), expected)
