"""The streams of a store and the kind of data of each. Readers and checks go by the kind, not by the name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from preprocess.store.codec import decode_flow, decode_rgb

Layout = dict[str, tuple[str, int]]  # dataset → its type and number of axes


@dataclass(frozen=True)
class Pictures:
    """Pictures at the store's rate, each a JPEG; picture k is data[ends[k]:ends[k + 1]]."""

    datasets: ClassVar[Layout] = {"data": ("u1", 1), "ends": ("i8", 1)}
    decode: Callable[[np.ndarray], np.ndarray]  # decodes one JPEG; several planes become the first axis
    fewer: int = 0  # how many fewer than the video's frames: 1 for data between a frame and the next
    planes: int = 1  # planes of the video's size, one above the other in each JPEG

    def number(self, frames: int) -> int:
        """The number of pictures of a video of so many frames."""
        return frames - self.fewer

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of each JPEG of a video of that size."""
        return self.planes * height, width

    def window(self, rows: slice, columns: slice) -> tuple[slice, ...]:
        """The index that cuts rows and columns from a decoded picture."""
        return (rows, columns) if self.planes == 1 else (slice(None), rows, columns)


@dataclass(frozen=True)
class Spectrogram:
    """Rows of a log-mel spectrogram."""

    datasets: ClassVar[Layout] = {"data": ("f2", 2)}


@dataclass(frozen=True)
class Given:
    """Rows of features that others extracted, spread evenly over the video."""

    datasets: ClassVar[Layout] = {"data": ("f4", 2)}
    size: int  # features of a row


Kind = Pictures | Spectrogram | Given
Kinds = dict[str, Kind]

KINDS: Kinds = {
    "rgb": Pictures(decode_rgb),
    "flow": Pictures(decode_flow, fewer=1, planes=2),
    "audio": Spectrogram(),
}


def kinds_of(parameters: dict) -> Kinds:
    """The streams of a store with these parameters: those of videos, or those that were given as features."""
    given = parameters.get("given")
    return KINDS if given is None else {name: Given(size) for name, size in given.items()}


def datasets_of(kinds: Kinds) -> tuple[str, ...]:
    """All datasets of a video, as the index's columns name them."""
    return tuple(f"{stream}_{name}" for stream, kind in kinds.items() for name in kind.datasets)
