"""What a page shows of a video, as JSON: small enough for hours of it."""

import json
from collections.abc import Sequence

import numpy as np

from tasks.events.event import Event
from tasks.timeline import Timeline

WINDOWS = 4000  # at most; of more, every second or third … is shown
CLASSES = 40  # curves at most: those with the highest peaks


def timeline_data(timeline: Timeline) -> dict:
    """Times, the likeliest classes' curves, and each stream's own answer, share and presence."""
    every = slice(None, None, -(-len(timeline) // WINDOWS))
    answer = timeline.answer[every]
    peaks = answer.max(axis=0, initial=0)
    shown = np.argsort(-peaks, kind="stable")[:CLASSES].tolist()

    def numbers(values: np.ndarray) -> list[float]:
        return np.round(values, 3).tolist()

    return {
        "times": numbers(timeline.times[every]),
        "classes": [timeline.classes[row] for row in shown],
        "curves": [numbers(answer[:, row]) for row in shown],
        "fused": _best(answer, timeline.classes),
        "streams": {
            name: {
                "best": _best(alone[every], timeline.classes),
                "share": numbers(timeline.shares[name][every]),
                "present": timeline.present[name][every].astype(int).tolist(),
            }
            for name, alone in timeline.streams.items()
        },
    }


def _best(answer: np.ndarray, classes: Sequence[str]) -> list[list]:
    """(N, K) → of each window the likeliest class and its probability; none where there is no answer."""
    if not len(answer):
        return []
    best, peak = answer.argmax(axis=1), answer.max(axis=1)
    return [[classes[row], round(float(value), 3)] if value else [] for row, value in zip(best, peak, strict=True)]


def events_data(events: Sequence[Event]) -> list[dict]:
    """Events in the order of time."""
    ordered = sorted(events, key=lambda event: (event.start, event.end))
    return [
        {
            "start": round(event.start, 3),
            "end": round(event.end, 3),
            "label": event.label,
            "score": round(event.score, 3),
        }
        for event in ordered
    ]


def embedded(value: object) -> str:
    """JSON that cannot end the element that it stands in, whatever names are in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
