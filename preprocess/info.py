"""Summary of a store.

    python -m preprocess.info out.h5            # a summary
    python -m preprocess.info out.h5 --json     # a row for every video

Nothing in the store is changed.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import human_bytes, human_seconds, plural, print_table
from preprocess.common.errors import one_line
from preprocess.store import Store
from preprocess.store.index import UNLABELLED, Rejected, category, notes_on_videos


@dataclass(frozen=True)
class InfoSettings:
    """The command line of preprocess.info."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """the store, for instance out.h5"""
    json: bool = False
    """print one JSON document with a row for every video"""


def describe(store: Store) -> dict:
    """A description of a store, ready for JSON."""
    return {
        "store": str(store.path),
        "bytes": total_bytes(store),
        "files": [str(path) for path in store.files()],
        "classes": store.classes,
        "parameters": store.parameters,
        "videos": [
            {
                "path": video.path,
                "label": video.label,
                "group": video.group,
                "split": video.split,
                "seconds": video.seconds,
                "frames": video.frames,
                "height": video.height,
                "width": video.width,
                "content": video.content,
                "expected": video.expected,
                "damaged": video.damaged,
                "decoding": video.notes,
                "streams": video.streams,
                "why": video.why,
            }
            for video in store.videos
        ],
        "rejected": [{"path": reject.path, "reason": reject.reason} for reject in store.rejected],
        "notes": store.notes,
    }


def total_bytes(store: Store) -> int:
    """The size of all files of a store, in bytes."""
    return sum(path.stat().st_size for path in store.files() if path.exists())


def print_rejected(rejected: Sequence[Rejected]) -> None:
    """Print one line for each file that could not be used."""
    for reject in rejected:
        print(f"not used: {one_line(reject.path)}: {one_line(reject.reason)}")


def print_summary(store: Store) -> None:
    """Print a table of the store's content, stream by stream."""
    columns = store.columns
    shards = f" in {len(store.files())} files" if store.shards else ""
    print(
        f"{store.path}: {plural(len(store), 'video')}, {human_seconds(float(columns['seconds'].sum()))}, "
        f"{plural(len(store.classes), 'class')}, {human_bytes(total_bytes(store))}{shards}; "
        f"{plural(len(store.rejected), 'file')} not used{_reasons(store.rejected)}"
    )
    print_table(["stream", "present", "missing", "why", "size"], [_stream_row(store, name) for name in store.kinds])
    for name, rows in (
        ("that end before their container or timestamps say", np.flatnonzero(~np.isnan(columns["expected"]))),
        ("with damaged parts, which were passed over", np.flatnonzero(columns["damaged"])),
    ):
        if len(rows):
            print(f"videos {name}: {len(rows)}, the first: {one_line(columns['path'][int(rows[0])])}")
    for note in notes_on_videos(zip(columns["path"], columns["notes"], strict=True)):
        print(one_line(note))


def print_classes(store: Store) -> None:
    """Print the videos, groups and duration of each class."""
    columns, rows = store.columns, []
    groups, splits = list(columns["group"]), list(columns["split"])
    order = np.argsort(columns["label"], kind="stable")
    numbers = [*range(len(store.classes)), UNLABELLED]
    begins = np.searchsorted(columns["label"], numbers, sorter=order)
    ends = np.searchsorted(columns["label"], numbers, side="right", sorter=order)
    for name, begin, end in zip([*store.classes, "(no label)"], begins, ends, strict=True):
        if begin == end:
            continue
        members = order[begin:end]
        grouped = len({groups[row] for row in members if groups[row]})
        split = ", ".join(f"{name} {count}" for name, count in Counter(splits[row] for row in members).items() if name)
        seconds = human_seconds(float(columns["seconds"][members].sum()))
        rows.append([name, str(len(members)), str(grouped) if grouped else "–", split or "–", seconds])
    print_table(["class", "videos", "groups", "split", "length"], rows)


def _stream_row(store: Store, stream: str) -> list[str]:
    why = Counter(why for why in store.columns[f"why_no_{stream}"] if why)
    present = int(store.columns[f"has_{stream}"].sum())
    reasons = ", ".join(f"{reason} ×{count}" for reason, count in why.most_common()) or "–"
    size = human_bytes(int(store.columns[f"bytes_{stream}"].sum()))
    return [stream, str(present), str(len(store) - present), reasons, size]


def _reasons(rejected: Sequence[Rejected]) -> str:
    counts = Counter(category(reject.reason) for reject in rejected)
    return f" ({', '.join(f'{name} ×{count}' for name, count in counts.most_common())})" if counts else ""


def main(settings: InfoSettings | None = None) -> None:
    settings = settings or parse_command(InfoSettings, prog="python -m preprocess.info", doc=__doc__)
    store = Store(settings.store)
    if settings.json:
        print(json.dumps(describe(store), indent=1))
        return
    print_rejected(store.rejected)
    print_summary(store)
    print_classes(store)
    same = {name: value for name, value in store.parameters.items() if name not in ("flow", "limits", "given")}
    if flow := store.parameters.get("flow"):
        same["flow"] = f"{flow['method']} by {flow['engine']}, preset {flow['preset']}"
    print("parameters: " + ", ".join(f"{name} {value}" for name, value in same.items()))


if __name__ == "__main__":
    run_command(main)
