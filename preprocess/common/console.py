"""Small tables and numbers for people."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose columns are as wide as their widest cell; numbers are right-aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["─" * width for width in widths], *rows):
        cells = [
            cell.rjust(width) if cell.lstrip("+−")[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        print("  " + "  ".join(cells).rstrip())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def human_bytes(count: float) -> str:
    """1234567 → '1.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """3723 → '1.03 h'; 90 → '1.5 min'."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def plural(count: int, noun: str) -> str:
    """1 → '1 class'; 3 → '3 classes', '3 patches'."""
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith(('s', 'ch')) else 's'}"


def progress(
    items: Iterable | None = None,
    *,
    total: int | None = None,
    done: int = 0,
    unit: str,
    name: str = "",
    leave: bool = True,
    hidden: bool = False,
) -> tqdm:
    """A progress bar over `items`, or one to move with `update`; `done` of `total` were done before.

    leave: the bar stays on the screen when it is complete; one that does not appears only if it takes a while.
    """
    pause = 0.1 if sys.stderr.isatty() else 10
    shown = {"unit": unit, "desc": name or None, "leave": leave, "disable": hidden, "delay": 0 if leave else pause}
    return tqdm(items, total=total, initial=done, mininterval=pause, smoothing=0.05, **shown)


def with_progress(items: Iterable[Item], **shown: object) -> Iterator[Item]:
    """The items, with a `progress` bar from the first on."""
    yield from progress(items, **shown)
