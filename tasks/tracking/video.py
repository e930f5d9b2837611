"""A video file as pictures of full size, at its own rate, as detectors and films take them."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from preprocess.common.console import with_progress
from preprocess.common.errors import UserError
from preprocess.video.limits import Unusable
from tasks.film.reading import film_decoder, film_pictures, film_shape

ALL = 1 << 62


@dataclass(frozen=True)
class VideoFile:
    """A video that can be decoded."""

    path: Path
    rate: Fraction  # pictures a second
    side: int  # the shorter side, in square pixels

    @property
    def fps(self) -> float:
        return float(self.rate)

    def pictures(self, *, bar: str | None = None) -> Iterator[np.ndarray]:
        """The pictures, (H, W, 3) uint8 RGB, as often as they are shown.

        Raises UserError if none can be decoded.
        """
        decoder = film_decoder(str(self.path), self.rate, self.side)
        shown = film_pictures(decoder, ALL)
        try:
            for picture, begin, end in with_progress(shown, unit="picture", name=bar or "", leave=False):
                for _ in range(begin, end):
                    yield picture
        except Unusable as error:
            raise UserError(f"{self.path} cannot be used: {error}") from error

    @property
    def start(self) -> float:
        """The time of the first picture, in seconds on the file's clock."""
        decoder = film_decoder(str(self.path), self.rate, self.side)
        for _ in film_pictures(decoder, 1):
            break
        assert decoder.pictures is not None and decoder.pictures.clock.start is not None
        return decoder.pictures.clock.start


def open_video(path: Path) -> VideoFile:
    """Look at a video file.

    Raises UserError if there is none, or it has no pictures.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        return VideoFile(path, *film_shape(str(path)))
    except Unusable as error:
        raise UserError(f"{path} cannot be used: {error}") from error
