"""A picture of one video's events on its time axis."""

from collections.abc import Sequence
from pathlib import Path

from preprocess.common.figures import as_drawn, figure_file
from tasks.events.event import Event

FOUND, KNOWN = "tab:blue", "0.55"


def draw_events(
    path: Path, *, video: str, seconds: float, found: Sequence[Event], known: Sequence[Event] | None = None
) -> None:
    """Write the picture: a row a class, found events as bars, the darker the surer; known ones as thin bars above."""
    classes = sorted({event.label for event in [*found, *(known or ())]})
    height = 1.2 + 0.34 * max(1, len(classes))
    width = min(24.0, max(9.0, seconds / 20))
    name = as_drawn(video)
    with figure_file(path, size=(width, height), dpi=110, names=name + "".join(classes)) as figure:
        axes = figure.subplots()
        for event in sorted(found, key=lambda event: event.score):
            row, alpha = classes.index(event.label), 0.15 + 0.85 * event.score
            axes.broken_barh([(event.start, event.end - event.start)], (row - 0.1, 0.45), color=FOUND, alpha=alpha)
        for event in known or ():
            row = classes.index(event.label)
            axes.broken_barh([(event.start, event.end - event.start)], (row - 0.35, 0.18), color=KNOWN)
        axes.set(xlim=(0, seconds), ylim=(max(1, len(classes)) - 0.5, -0.5), xlabel="seconds")
        axes.set_yticks(range(len(classes)), [as_drawn(label, longest=24) for label in classes])
        axes.set_title(f"{name}: found events, the darker the surer" + (", known ones in grey" if known else ""))
        axes.grid(axis="x", alpha=0.3)
