"""The answer for one video: classes from the likeliest on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tasks.windows import Windows


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one video."""

    video: str
    seconds: float
    classes: dict[str, float]  # class → probability, from the likeliest on
    streams: dict[str, dict[str, float]]  # stream → the same from it alone; only present streams
    missing: dict[str, str]  # stream → the reason for its absence
    expected: float | None = None  # seconds by the container or its timestamps, if more than were decoded; else None
    damaged: int = 0  # packets that could not be decoded, and frames with an impossible time
    notes: str = ""  # what was chosen, changed or left out while decoding, separated by semicolons

    def top(self, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities."""
        return list(self.classes.items())[:count]


def mean_answer(windows: Sequence[Windows]) -> torch.Tensor:
    """(K,) the mean over all windows that have an answer; zeros if none has."""
    total = sum(part.answer.sum(dim=0) for part in windows)
    return total / max(1, sum(int(part.answered.sum()) for part in windows))


def ranked(answer: torch.Tensor, classes: Sequence[str]) -> dict[str, float]:
    """(K,) → the classes with their probabilities, from the likeliest on."""
    order = answer.argsort(descending=True).tolist()
    return {classes[row]: answer[row].item() for row in order}
