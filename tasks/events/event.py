"""Events and the tables that hold them: CSV, JSON, and subtitles (WebVTT)."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside

COLUMNS = ("video", "start", "end", "label")


@dataclass(frozen=True)
class Event:
    """Something that happens in a video from `start` until `end`, in seconds."""

    video: str
    start: float
    end: float
    label: str
    score: float = 1.0  # between 0 and 1: how sure; 1 for an event that is known
    kind: str | None = None  # of a known event, by which recall is told apart


def read_events(table: Path) -> list[Event]:
    """The events of a CSV file with the columns video, start, end, label and, if there are, score and kind; others are
    passed over.

    Raises UserError, with the line, for a missing column, a time that is no number of seconds, an end that is not after
    its start, an empty name, or a score that is no number.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise UserError(f"{table} has no column {missing[0]}: its first line must name {', '.join(COLUMNS)}")
            return [_event(row, f"{table}, line {rows.line_num}") for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is no CSV file in UTF-8: {error}") from error


def _event(row: dict, place: str) -> Event:
    numbers = {}
    for name in ("start", "end", *(["score"] if row.get("score") is not None else [])):
        try:
            numbers[name] = float(row[name])
        except (TypeError, ValueError):
            numbers[name] = math.nan
        if not math.isfinite(numbers[name]):
            raise UserError(f"{place}: {name} must be a number, not '{row[name]}'")
    for name in ("video", "label"):
        if not (row[name] or "").strip():
            raise UserError(f"{place}: {name} is empty")
    if numbers["start"] < 0 or numbers["end"] <= numbers["start"]:
        raise UserError(f"{place}: the event ends at {row['end']} s, which is not after its start at {row['start']} s")
    return Event(video=row["video"].strip(), label=row["label"].strip(), kind=row.get("kind") or None, **numbers)


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write events to `path`, as its suffix says: .csv, .json or .vtt.

    Raises UserError for another suffix.
    """
    formats = {".csv": as_csv, ".json": as_json, ".vtt": as_vtt}
    if path.suffix.lower() not in formats:
        raise UserError(f"{path}: events are written as .csv, .json or .vtt, not '{path.suffix}'")
    text = formats[path.suffix.lower()](list(events))
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def as_csv(events: Sequence[Event]) -> str:
    """A line an event: video, start, end, label, score."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, "score"])
    for event in events:
        rows.writerow([event.video, f"{event.start:.3f}", f"{event.end:.3f}", event.label, f"{event.score:.4f}"])
    return text.getvalue()


def as_json(events: Sequence[Event]) -> str:
    """A list of objects with the fields of Event that are known."""
    found = [{name: value for name, value in asdict(event).items() if value is not None} for event in events]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def as_vtt(events: Sequence[Event]) -> str:
    """Subtitles of one video's events, for any player; a cue an event, in the order of time."""
    cues = [
        f"{_clock(event.start)} --> {_clock(event.end)}\n{_escaped(event.label)} {event.score:.0%}"
        for event in sorted(events, key=lambda event: (event.start, event.end))
    ]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def _clock(seconds: float) -> str:
    """3723.5 → '01:02:03.500'"""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _escaped(text: str) -> str:
    """The text as WebVTT takes it: one line, without marks of its own."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
