"""A clock that a test moves, and items of a live video."""

from collections.abc import Iterator

import numpy as np

from preprocess.video.decoded import Frame, Item, Samples

FPS = 25


class FakeClock:
    """Waiting takes no time: it moves the clock."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def picture(level: int, *, count: int = 1) -> Frame:
    """A small even picture."""
    return Frame(np.full((4, 4, 3), level % 256, np.uint8), count)


def live_items(count: int, *, first: int = 0) -> Iterator[Item]:
    """Pictures of the levels first, first + 1 …, each with its sound, whose samples have the same value in 1/1000."""
    for level in range(first, first + count):
        yield picture(level)
        yield Samples(np.full(16_000 // FPS, level / 1000, np.float32))
