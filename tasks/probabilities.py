"""Probabilities that models give to the classes of N videos, and all of them as one CSV file."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fusion.answers import Answers
from preprocess.common.files import write_aside
from preprocess.store.index import Video


@dataclass(frozen=True)
class Probabilities:
    """A model's probabilities for N videos."""

    probabilities: Tensor  # (N, K); zeros where there is no answer
    answered: Tensor  # (N,) bool

    @classmethod
    def of(cls, answers: Answers, subset: str) -> "Probabilities":
        """A run's probabilities from one subset of its streams."""
        return cls(answers.probabilities(subset), answers.answered(subset))

    def right(self, labels: Tensor) -> np.ndarray:
        """(N,) → (N,) bool. No answer counts as wrong."""
        return ((self.probabilities.argmax(dim=1) == labels) & self.answered).numpy()


def write_predictions(
    path: Path,
    videos: Sequence[Video],
    classes: Sequence[str],
    found: Iterable[tuple[dict[str, object], Probabilities]],
) -> None:
    """A line a video and entry of `found`: path, label, the entry's own columns, answer, the probability of each class.

    `found` holds the values of the own columns, which all entries have, and the probabilities for the videos. A video
    without an answer has empty cells.
    """
    write_csv(path, _rows(videos, classes, found))


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV. Bytes in names that are not UTF-8 are escaped."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows(rows)

    write_aside(path, write)


def _rows(
    videos: Sequence[Video], classes: Sequence[str], found: Iterable[tuple[dict[str, object], Probabilities]]
) -> Iterator[list[object]]:
    for number, (columns, one) in enumerate(found):
        if not number:
            yield ["path", "label", *columns, "answer", *classes]
        best = one.probabilities.argmax(dim=1).tolist()
        for row, video in enumerate(videos):
            answer, shares = "", [""] * len(classes)
            if one.answered[row]:
                answer, shares = classes[best[row]], [f"{share:.6g}" for share in one.probabilities[row].tolist()]
            yield [video.path, video.label, *columns.values(), answer, *shares]
