"""The confusion matrix as a figure and as CSV."""

import csv
import warnings

import cv2
import pytest
import torch

from tasks.confusion import largest_confusions, plot_confusion, write_confusion
from tests.support.cases import case

ODD = ["$5_bill^2", "跑步", "бег", "a\\b", 'with, commas and "quotes"', "line\nbreak", "\udcff"]


def some_counts(classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.randint(0, 3, (classes, classes), generator=generator) + 9 * torch.eye(classes, dtype=torch.int64)


@pytest.mark.slow
def test_any_number_of_classes_of_any_name_is_drawn_without_a_warning(tmp_path):
    for classes in (1, 2, 7, 25, 101, 400):
        with case(classes):
            names = [*ODD, *(f"class {row}" for row in range(classes))][:classes]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                plot_confusion(some_counts(classes), names, tmp_path / "c.png", title="rgb, $5")
            height, width, _ = cv2.imread(str(tmp_path / "c.png")).shape
            assert max(height, width) < 5000 and (width > 1.4 * height) == (classes > 20)


def test_the_largest_confusions_come_first_and_among_equals_those_of_the_smaller_class():
    counts = torch.tensor([[50, 3, 0], [1, 5, 3], [4, 0, 90]])
    assert largest_confusions(counts, 3) == [(2, 0, 4, 94), (1, 2, 3, 9), (0, 1, 3, 53)]
    assert largest_confusions(torch.eye(4, dtype=torch.int64), 3) == []


def test_the_table_has_the_names_whatever_they_hold(tmp_path):
    write_confusion(some_counts(7), ODD, tmp_path / "c.csv")
    with open(tmp_path / "c.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    names = [*ODD[:-1], r"\udcff"]  # bytes that are not UTF-8 cannot be written as they are
    assert head == ["truth", *names] and [row[0] for row in rows] == names
    assert [[int(count) for count in row[1:]] for row in rows] == some_counts(7).tolist()
