"""CPU time of an extraction, by stage."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import TypeVar

Item = TypeVar("Item")


class Stopwatch:
    """CPU seconds of this process, spent in named stages. A stage within a stage counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the CPU time within the context for `name`."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The `items`; the CPU time of making each counts for `name`."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _charge(self) -> None:
        now = process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
