"""One kind of progress bar: lively on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def progress(items: Iterable | None = None, *, total: int | None = None, unit: str, name: str = "") -> tqdm:
    """A bar over `items`, or one that is moved by hand with `update`."""
    terminal = sys.stderr.isatty()
    return tqdm(items, total=total, unit=unit, desc=name or None, mininterval=0.1 if terminal else 10, smoothing=0.05)
