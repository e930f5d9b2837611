"""Answers for one video: one for all of it, or one after the other over its time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tasks.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How much of one video a model has looked at."""

    video: str
    seconds: float
    windows: int
    length: float  # seconds of a window
    seen: float  # seconds of the video of which the windows show pictures
    missing: dict[str, str]  # stream → the reason for its absence
    expected: float | None = None  # seconds by the container or its timestamps, if more than were decoded; else None
    damaged: int = 0  # packets that could not be decoded, and frames with an impossible time
    notes: str = ""  # what was chosen, changed or left out while decoding, separated by semicolons


@dataclass(frozen=True, kw_only=True)
class Prediction(Seen):
    """A model's answer for one video."""

    classes: dict[str, float]  # class → probability, from the likeliest on
    streams: dict[str, dict[str, float]]  # stream → the same from it alone; only present streams
    shares: dict[
        str, float
    ]  # stream → its part in the likeliest class's probability beyond chance, see `shapley.shares`

    def top(self, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest classes and their probabilities."""
        return list(self.classes.items())[:count]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Windows that follow each other and have one likeliest class. Numbers are the means over them."""

    start: float  # seconds
    end: float
    label: str | None  # None where no stream is there
    score: float  # its probability
    alone: dict[str, float]  # stream → its probability from that stream alone; only streams that are there
    shares: dict[str, float]  # stream → its part in the probability beyond chance; see `shapley.shares`


@dataclass(frozen=True, kw_only=True)
class TimedPrediction(Seen):
    """A model's answers over the time of one video."""

    hop: float  # seconds from one window to the next
    streams: dict[str, float]  # stream → the share of the windows that have it; only present streams
    timeline: list[Span]


def seconds_in(times: np.ndarray) -> float:
    """times: (N, 2), begin and end → the seconds that lie within any of these intervals."""
    times = times[np.argsort(times[:, 0])]
    done = np.maximum.accumulate(np.concatenate([times[:1, 0], times[:-1, 1]]))  # (N,) all before it has been counted
    return float((times[:, 1] - np.maximum(times[:, 0], done)).clip(min=0).sum())


def mean_answer(windows: Sequence[Windows]) -> torch.Tensor:
    """(K,) the mean over all windows that have an answer; zeros if none has."""
    total = sum(part.answer.sum(dim=0) for part in windows)
    return total / max(1, sum(int(part.answered.sum()) for part in windows))


def ranked(answer: torch.Tensor, classes: Sequence[str]) -> dict[str, float]:
    """(K,) → the classes with their probabilities, from the likeliest on."""
    order = answer.argsort(descending=True).tolist()
    return {classes[row]: answer[row].item() for row in order}
