"""What people find important: agreement with them by rank, and a linear model that learns it from window features.

Summaries are judged by the rank correlation of scores, Kendall's tau-b and Spearman's rho, not by the F1 of the kept
time, on which random summaries do as well as models (Otani et al., "Rethinking the evaluation of video summaries",
CVPR 2019).
"""

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from tasks.summary.evidence import Evidence
from tasks.summary.importance import importance, ranks

COLUMNS = ("video", "time", "score")
STRENGTHS = tuple(10.0**power for power in range(0, 7))  # of the ridge, of which the best by leaving one out is taken
ROWS = 2000  # of the signs of pairs in memory at a time


def kendall_tau_b(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two (S,) rankings, with ties (Kendall 1945); NaN if one of them is constant."""
    agree = first_pairs = second_pairs = 0.0
    for begin in range(0, len(first), ROWS):
        ones = np.sign(first[begin : begin + ROWS, None] - first)
        twos = np.sign(second[begin : begin + ROWS, None] - second)
        agree += float((ones * twos).sum())
        first_pairs += float(np.abs(ones).sum())
        second_pairs += float(np.abs(twos).sum())
    return agree / math.sqrt(first_pairs * second_pairs) if first_pairs and second_pairs else math.nan


def spearman_rho(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho of two (S,) rankings: the correlation of their ranks; NaN if one of them is constant."""
    one, two = (ranks(np.asarray(values, np.float64)) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    norms = math.sqrt(float(one @ one) * float(two @ two))
    return float(one @ two) / norms if norms else math.nan


@dataclass(frozen=True)
class Agreement:
    """The mean of both over pairs of rankings, and then over videos."""

    tau: float
    rho: float


def with_people(predicted: Mapping[str, np.ndarray], people: Mapping[str, np.ndarray]) -> Agreement:
    """How well (S,) scores of each video agree with those of its P people, (P, S): each of them by itself."""
    return _mean({name: [(predicted[name], person) for person in scores] for name, scores in people.items()})


def between_people(people: Mapping[str, np.ndarray]) -> Agreement:
    """How well the people, (P, S) of each video, agree with each other: all pairs."""
    return _mean({name: list(combinations(scores, 2)) for name, scores in people.items()})


def middle_matters(steps: int) -> np.ndarray:
    """(S,) a floor that needs no picture: the nearer to the middle, the more important."""
    return -np.abs(np.arange(steps) - (steps - 1) / 2)


def _mean(pairs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> Agreement:
    return Agreement(
        *(
            float(
                np.mean([np.nanmean([measure(one, two) for one, two in both]) for both in pairs.values() if len(both)])
            )
            for measure in (kendall_tau_b, spearman_rho)
        )
    )


@dataclass(frozen=True)
class Scores:
    """What P people said of S moments of one video."""

    times: np.ndarray  # (S,) seconds
    scores: np.ndarray  # (P, S); NaN where someone said nothing


def read_scores(table: Path) -> dict[str, Scores]:
    """The scores of each video of a CSV file: columns video, time, score and, if there are several, person.

    Raises UserError, with the line, for a missing column or what is no number; for moments that someone left out.
    """
    said: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise UserError(f"{table} has no column {missing[0]}: its first line must name {', '.join(COLUMNS)}")
            for row in rows:
                try:
                    time, score = float(row["time"]), float(row["score"])
                except (TypeError, ValueError):
                    time = score = math.nan
                if not (math.isfinite(time) and math.isfinite(score) and time >= 0 and (row["video"] or "").strip()):
                    raise UserError(f"{table}, line {rows.line_num}: it needs a video, a time and a score as numbers")
                said[row["video"].strip()][row.get("person") or ""][time] = score
    except OSError as error:
        raise UserError(f"{table} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is no CSV file in UTF-8: {error}") from error
    if not said:
        raise UserError(f"{table} holds no score")
    found = {}
    for video, people in said.items():
        times = sorted({time for scores in people.values() for time in scores})
        for person, scores in people.items():
            if len(scores) < len(times):
                raise UserError(
                    f"{table}: {person or 'someone'} left out times of {video} that others scored: fill or drop them"
                )
        scores = np.array([[of[time] for time in times] for of in people.values()])
        found[video] = Scores(np.array(times), scores)
    return found


@dataclass(frozen=True)
class Learned:
    """A linear model of importance over window features."""

    weights: np.ndarray  # (D,)
    run: str  # the run whose features it reads

    def predict(self, evidence: Evidence) -> np.ndarray:
        """(N,) what people would say of each window, up to scale.

        Raises UserError if it has learned from another model's features.
        """
        read = readings(evidence)
        if read.shape[1] != len(self.weights):
            raise UserError(f"--importance was learned with the features of {self.run}: learn it again for this run")
        return read @ self.weights


def readings(evidence: Evidence) -> np.ndarray:
    """(N, D) what the linear model reads of each window: how it looks beside its video, and what stands out."""
    found = importance(evidence)
    parts = [found.unusual, found.loud, found.happening]
    more = [np.zeros(len(evidence)) if part is None else part - part.mean() for part in parts]
    return np.concatenate([evidence.unlike, np.stack(more, axis=1)], axis=1)


def learn(evidences: Sequence[Evidence], scores: Sequence[Scores], *, run: str) -> Learned:
    """Ridge regression of the people's mean rank on `readings`, its strength by leaving one window out."""
    from sklearn.linear_model import RidgeCV

    read, wanted = [], []
    for evidence, said in zip(evidences, scores, strict=True):
        mean = np.mean([ranks(person) for person in said.scores], axis=0)
        target = np.interp(evidence.middles, said.times, mean)
        read.append(readings(evidence))
        wanted.append(target - target.mean())
    fitted = RidgeCV(alphas=STRENGTHS, fit_intercept=False).fit(np.concatenate(read), np.concatenate(wanted))
    return Learned(np.asarray(fitted.coef_), run)


def save_learned(path: Path, learned: Learned) -> None:
    """Write it to an .npz file."""

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez(file, weights=learned.weights, run=np.array(learned.run))

    write_aside(path, write)


def load_learned(path: Path) -> Learned:
    """The file of `save_learned`.

    Raises UserError if it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            return Learned(held["weights"].astype(np.float64), str(held["run"]))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no learned importance: make it with python -m tasks.summary.learn") from error
