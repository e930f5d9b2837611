"""How important each moment of a video is.

Without labels, a moment is important that stands out: that looks unlike most of the video, and is loud for it. Where
classes have a background, or a detector has found events, what happens counts as much. A shot is judged as a whole,
because what matters rarely begins in the middle of one.
"""

from dataclasses import dataclass

import numpy as np

from preprocess.common.errors import UserError
from tasks.summary.evidence import Evidence

WHOLE = 0.8  # weight of the shot's mean in a window's importance; the rest is its own
AROUND = 10.0  # seconds on each side, so that a moment of a long take can stand out


@dataclass(frozen=True)
class Importance:
    """The importance of N windows, and what it is made of."""

    values: np.ndarray  # (N,) between 0 and 1
    unusual: np.ndarray  # (N,) share of the video that is more usual
    loud: np.ndarray | None  # (N,) share of the video that is less loud
    happening: np.ndarray | None  # (N,) probability that something happens


def importance(evidence: Evidence, *, learned: np.ndarray | None = None) -> Importance:
    """The importance of each window; `learned`, (N,), is what people would say, and stands in for what stands out."""
    unusual = ranks(-evidence.unlike @ evidence.unlike.mean(axis=0))
    loud = None if evidence.loudness is None else ranks(evidence.loudness)
    out = unusual if loud is None else (unusual + loud) / 2
    if learned is not None:
        out = ranks(learned)
    known = [part for part in (evidence.happening, evidence.event_scores()) if part is not None]
    happening = np.mean(known, axis=0) if known else None
    values = out if happening is None else (out + happening) / 2
    return Importance(over_shots(evidence, values), unusual, loud, happening)


def concerning(evidence: Evidence, label: str) -> np.ndarray:
    """(N,) how sure it is that each window shows a class: by the detector that knows it, else by the run.

    Raises UserError if neither knows it.
    """
    scores = evidence.event_scores(label)
    if label in evidence.classes and (scores is None or not scores.any()):
        return evidence.answer[:, evidence.classes.index(label)]
    if scores is None:
        raise UserError(f"--query {label} is neither a stream nor a class: classes are {', '.join(evidence.classes)}")
    return scores


def over_shots(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """(N,) → (N,) mixed with the mean over what lies within AROUND seconds and in the shot of the window's middle."""
    middles, inner = evidence.middles, evidence.shots[1:-1]
    shot = np.searchsorted(inner, middles, side="right")
    first = np.maximum(np.searchsorted(shot, shot, side="left"), np.searchsorted(middles, middles - AROUND))
    last = np.minimum(np.searchsorted(shot, shot, side="right"), np.searchsorted(middles, middles + AROUND, "right"))
    total = np.concatenate([[0.0], values.cumsum()])
    return WHOLE * (total[last] - total[first]) / (last - first) + (1 - WHOLE) * values


def ranks(values: np.ndarray) -> np.ndarray:
    """(N,) → (N,) the share of the others that are smaller, equal ones by half."""
    from scipy.stats import rankdata

    return (rankdata(values) - 1) / max(1, len(values) - 1)


def by_second(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """(N,) → the value in the middle of every second of the video that has begun."""
    return np.interp(np.arange(int(np.ceil(evidence.seconds))) + 0.5, evidence.middles, values)
