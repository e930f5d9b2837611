"""The summary of one video: the pieces that are kept, and why."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from preprocess.common.errors import UserError
from tasks.events.event import Event
from tasks.events.labels import BACKGROUND
from tasks.summary.choose import POWER, Chosen, candidates, choose
from tasks.summary.evidence import Evidence
from tasks.summary.importance import Importance, by_second, concerning, importance, over_shots

LEAST = 0.3  # probability from which a piece concerns the class that was asked for
LIKELY = 0.5  # from which a piece's class is named


@dataclass(frozen=True)
class Piece:
    """A kept piece of a video, in seconds."""

    start: float
    end: float
    moment: float  # seconds: its most important one
    importance: float  # the mean over it, between 0 and 1
    gain: float  # share of the video's importance that it added to the pieces chosen before
    reason: str


@dataclass(frozen=True)
class Summary:
    """What is kept of one video."""

    video: str
    seconds: float
    pieces: list[Piece]  # in the order of time
    scores: list[float]  # importance of each second
    shots: list[float]  # seconds: where they begin

    @property
    def kept(self) -> float:
        """Seconds."""
        return sum(piece.end - piece.start for piece in self.pieces)

    def as_object(self) -> dict:
        """Plain data for JSON."""
        return json.loads(json.dumps(asdict(self)), parse_float=lambda text: round(float(text), 4))

    def as_events(self) -> list[Event]:
        """The pieces as events whose label is the reason, for tables and the page."""
        return [Event(self.video, one.start, one.end, one.reason, min(1.0, one.importance)) for one in self.pieces]


def summarise(
    evidence: Evidence,
    *,
    video: str,
    budget: float,
    piece: float,
    label: str | None = None,
    learned: np.ndarray | None = None,
) -> Summary:
    """The summary of one video in at most `budget` seconds, of pieces of `piece` seconds.

    Args:
        label: only pieces that show this class.
        learned: (N,) what people would say of each window.

    Raises:
        UserError: a class that nothing knows, or that no piece shows; a budget that holds no piece.
    """
    found = importance(evidence, learned=learned)
    values, given = found.values, candidates(evidence, piece=piece)
    if label is not None:
        sure = concerning(evidence, label)
        values = over_shots(evidence, sure)
        given = [one for one in given if sure[one.windows].mean() >= LEAST]
        if not given:
            place, best = float(evidence.middles[sure.argmax()]), float(sure.max())
            raise UserError(f"nothing in {video} is surely {label}: it is likeliest at {place:.1f} s, with {best:.0%}")
    chosen = choose(given, np.maximum(values, 0) ** POWER, budget=budget)
    if not chosen:
        raise UserError(f"no piece of {video} fits into {budget:.2f} s: give a larger --share or a shorter --piece")
    pieces = [_piece(evidence, found, values, one, label) for one in chosen]
    return Summary(
        video=video,
        seconds=evidence.seconds,
        pieces=sorted(pieces, key=lambda one: one.start),
        scores=by_second(evidence, values).tolist(),
        shots=evidence.shots[:-1].tolist(),
    )


def budget_of(share: str, seconds: float) -> float:
    """'15%', '0.15' or '30s' of a video → seconds.

    Raises UserError for anything else, or no share between 0 and all.
    """
    text = share.strip()
    try:
        if text.endswith("%"):
            part = float(text[:-1]) / 100
        elif text.endswith("s"):
            part = min(1.0, float(text[:-1]) / seconds)
        else:
            part = float(text)
    except ValueError:
        part = float("nan")
    if not 0 < part <= 1:
        raise UserError(f"--share is a part of the video, like 15% or 0.15, or seconds, like 30s, not '{share}'")
    return part * seconds


def _piece(evidence: Evidence, found: Importance, values: np.ndarray, chosen: Chosen, label: str | None) -> Piece:
    one = chosen.candidate
    inside = values[one.windows]
    moment = float(evidence.middles[one.windows][inside.argmax()])
    reasons = [*_what(evidence, one.windows, label), *_how(found, one.windows)]
    reasons.append(f"stands for {chosen.gain:.0%} of what matters")
    return Piece(
        start=one.start,
        end=one.end,
        moment=min(max(moment, one.start), one.end - 1e-3),
        importance=float(inside.mean()),
        gain=chosen.gain,
        reason="; ".join(reasons),
    )


def _what(evidence: Evidence, windows: slice, label: str | None) -> Sequence[str]:
    """The event or the class that a piece shows, if that is sure enough."""
    middle = float(evidence.middles[windows].mean())
    events = [one for one in evidence.events or () if one.start <= middle < one.end and label in (None, one.label)]
    if events and (best := max(events, key=lambda one: one.score)).score >= LEAST:
        return [f"{best.label} {best.score:.0%}, an event from {best.start:.1f} s to {best.end:.1f} s"]
    if not evidence.classes:
        return []
    answer = evidence.answer[windows].mean(axis=0)
    number = int(answer.argmax()) if label not in evidence.classes else evidence.classes.index(label)
    name = evidence.classes[number]
    return (
        [f"{name} {answer[number]:.0%}"] if name == label or (name != BACKGROUND and answer[number] >= LIKELY) else []
    )


def _how(found: Importance, windows: slice) -> Sequence[str]:
    """How a piece stands out."""
    said = [f"more unusual than {found.unusual[windows].mean():.0%} of the video"]
    if found.loud is not None:
        said.append(f"louder than {found.loud[windows].mean():.0%}")
    return said
