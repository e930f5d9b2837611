"""How good found events are: average precision over temporal overlaps, recall, F1. All rates are between 0 and 1."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.events.event import Event

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)  # of temporal IoU, as for THUMOS14
SURE = 0.5  # score from which an event counts as found, in F1
CLOSE = 1e-9  # an overlap that is a threshold but for rounding reaches it


def temporal_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(A, 2), (B, 2) begin and end → (A, B) length in common by length of both together."""
    shared = np.minimum(one[:, None, 1], other[None, :, 1]) - np.maximum(one[:, None, 0], other[None, :, 0])
    shared = shared.clip(min=0)
    union = (one[:, 1] - one[:, 0])[:, None] + (other[:, 1] - other[:, 0])[None] - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


@dataclass(frozen=True)
class Matches:
    """P found events of one class, and which of them are right at each of T thresholds."""

    scores: np.ndarray  # (P,)
    right: np.ndarray  # (T, P) bool
    truths: int  # the number of true events

    @classmethod
    def joined(cls, parts: Sequence["Matches"]) -> "Matches":
        """Those of several videos."""
        scores = np.concatenate([part.scores for part in parts])
        right = np.concatenate([part.right for part in parts], axis=1)
        return cls(scores, right, sum(part.truths for part in parts))

    def average_precision(self) -> np.ndarray:
        """(T,) the area under the interpolated precision-recall curve; NaN without a true event."""
        if not self.truths:
            return np.full(len(self.right), np.nan)
        order = np.argsort(-self.scores, kind="stable")
        hits = self.right[:, order].cumsum(axis=1)
        recall, precision = hits / self.truths, hits / np.arange(1, len(order) + 1)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        return (np.diff(recall, prepend=0, axis=1) * highest).sum(axis=1)


def match(truth: Sequence[Event], found: Sequence[Event], thresholds: Sequence[float]) -> Matches:
    """Of one video and class: from the surest on, each found event takes the true one that it overlaps most, of those
    that are still free and reach the threshold.
    """
    found = sorted(found, key=lambda event: -event.score)
    overlaps, right = temporal_iou(_spans(found), _spans(truth)), np.zeros((len(thresholds), len(found)), bool)
    for level, threshold in enumerate(thresholds):
        free = np.ones(len(truth), bool)
        for number, overlap in enumerate(overlaps):
            possible = np.where(free & (overlap >= threshold - CLOSE), overlap, -1)
            if len(truth) and possible.max() >= 0:
                free[possible.argmax()] = False
                right[level, number] = True
    return Matches(np.array([event.score for event in found]), right, len(truth))


def average_precision(truth: Sequence[Event], found: Sequence[Event], thresholds: Sequence[float]) -> np.ndarray:
    """The average precision over all videos at each threshold, (T,), as for ActivityNet and THUMOS14.

    Labels are not looked at. NaN without a true event.
    """
    true, said = _by_video(truth), _by_video(found)
    none = match([], [], thresholds)
    return Matches.joined([none, *(match(true[v], said[v], thresholds) for v in {**true, **said})]).average_precision()


def score_events(truth: Sequence[Event], found: Sequence[Event]) -> dict:
    """All figures: mAP at each threshold and their mean, per class, without classes, recall, F1, segment F1.

    Found events of videos without true ones are passed over.
    """
    videos = {event.video for event in truth}
    found = [event for event in found if event.video in videos]
    classes = sorted({event.label for event in truth})
    per_class = {
        name: average_precision(
            [event for event in truth if event.label == name],
            [event for event in found if event.label == name],
            THRESHOLDS,
        )
        for name in classes
    }
    means = np.mean(list(per_class.values()), axis=0)
    return {
        "videos": len(videos),
        "events": len(truth),
        "mean_map": float(means.mean()),
        "map": {f"{threshold:.1f}": float(value) for threshold, value in zip(THRESHOLDS, means, strict=True)},
        "ap_per_class": {name: float(values.mean()) for name, values in per_class.items()},
        "class_agnostic_ap": float(average_precision(truth, found, THRESHOLDS).mean()),
        "recall": recall(truth, found),
        **f1(truth, found),
        "segment_f1": segment_f1(truth, found, classes),
    }


def recall(truth: Sequence[Event], found: Sequence[Event]) -> dict[str, float]:
    """The share of true events that one of the surest found ones of their class overlaps by half or more, of all and of
    each kind. The surest are, in each video, three times as many as there are true events.
    """
    hits = defaultdict(list)
    per_video = _by_video(found)
    for video, events in _by_video(truth).items():
        surest = sorted(per_video[video], key=lambda event: -event.score)[: 3 * len(events)]
        for event in events:
            same = [one for one in surest if one.label == event.label]
            hit = bool(same) and bool(temporal_iou(_spans([event]), _spans(same)).max() >= 0.5 - CLOSE)
            hits["all"].append(hit)
            if event.kind:
                hits[event.kind].append(hit)
    return {kind: float(np.mean(values)) for kind, values in hits.items()}


def f1(truth: Sequence[Event], found: Sequence[Event]) -> dict[str, float | None]:
    """F1 of the found events that are sure, at a temporal IoU of a half, and the median error of their begins and ends
    in seconds; None if none is right.
    """
    sure = sorted((event for event in found if event.score >= SURE), key=lambda event: -event.score)
    free, errors = set(range(len(truth))), []
    for event in sure:
        rows = [row for row in free if (truth[row].video, truth[row].label) == (event.video, event.label)]
        if rows:
            overlaps = temporal_iou(_spans([event]), _spans([truth[row] for row in rows]))[0]
            if overlaps.max() >= 0.5 - CLOSE:
                row = rows[int(overlaps.argmax())]
                free.remove(row)
                errors += [abs(event.start - truth[row].start), abs(event.end - truth[row].end)]
    hits = len(truth) - len(free)
    return {
        "f1": 2 * hits / max(1, len(sure) + len(truth)),
        "boundary_error": float(np.median(errors)) if errors else None,
    }


def segment_f1(truth: Sequence[Event], found: Sequence[Event], classes: Sequence[str]) -> float:
    """F1 of classes in seconds of the clock (Mesaros et al. 2016): one is active where an event covers half of it."""
    sure = [event for event in found if event.score >= SURE and event.label in classes]
    counts = np.zeros(3)
    for video in {event.video for event in truth}:
        ours = [[event for event in events if event.video == video] for events in (truth, sure)]
        seconds = int(np.ceil(max(event.end for event in [*ours[0], *ours[1]])))
        there, said = (_active(events, classes, seconds) for events in ours)
        counts += [(there & said).sum(), (said & ~there).sum(), (there & ~said).sum()]
    right, wrong, missed = counts
    return float(2 * right / max(1, 2 * right + wrong + missed))


def _active(events: Iterable[Event], classes: Sequence[str], seconds: int) -> np.ndarray:
    """(K, seconds) bool"""
    covered, begins = np.zeros((len(classes), seconds)), np.arange(seconds)
    for event in events:
        row = covered[classes.index(event.label)]
        np.maximum(row, (np.minimum(begins + 1, event.end) - np.maximum(begins, event.start)).clip(0, 1), out=row)
    return covered >= 0.5


def _spans(events: Sequence[Event]) -> np.ndarray:
    """(E, 2)"""
    return np.array([(event.start, event.end) for event in events], float).reshape(-1, 2)


def _by_video(events: Iterable[Event]) -> dict[str, list[Event]]:
    found = defaultdict(list)
    for event in events:
        found[event.video].append(event)
    return found
