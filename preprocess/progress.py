"""One kind of progress bar: lively on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def progress(
    items: Iterable | None = None, *, total: int | None = None, done: int = 0, unit: str, name: str = ""
) -> tqdm:
    """A bar over `items`, or one that is moved by hand with `update`; `done` of `total` were done before."""
    pause = 0.1 if sys.stderr.isatty() else 10
    return tqdm(items, total=total, initial=done, unit=unit, desc=name or None, mininterval=pause, smoothing=0.05)
