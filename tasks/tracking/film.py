"""Films of pictures made from a video, with its sound at that time: the video with its boxes, or a track cut out."""

from collections.abc import Iterable
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import numpy as np

from preprocess.common.files import write_aside
from tasks.film.sound import RATE, FilmSound
from tasks.film.writing import film_frame, film_streams, open_film, sound_frame


def write_film(
    path: Path, pictures: Iterable[np.ndarray], *, file: str, start: float, first: int, rate: Fraction
) -> None:
    """Write pictures, (H, W, 3) uint8 of one size, that follow each other from number `first` of the video on.

    Args:
        file: the video, whose sound is taken.
        start: the time of its first picture, in seconds on its clock.
        rate: pictures a second.
    """
    write_aside(path, lambda part: _write(part, pictures, file=file, start=start, first=first, rate=rate))


def _write(part: Path, pictures: Iterable[np.ndarray], *, file: str, start: float, first: int, rate: Fraction) -> None:
    heard = 0  # samples written
    with ExitStack() as stack:
        film = stack.enter_context(open_film(part))
        sound = stack.enter_context(closing(FilmSound(file, start=start)))
        video = audio = None
        for number, picture in enumerate(pictures):
            if video is None:
                video, audio = film_streams(film, picture, rate, channels=sound.channels)
            film.mux(video.encode(film_frame(picture, video, number)))
            until = round((number + 1) * RATE / rate)
            if audio is not None:
                samples = np.ascontiguousarray(sound.take(round(first * RATE / rate) + heard, until - heard))
                film.mux(audio.encode(sound_frame(samples, audio, heard)))
            heard = until
        for stream in filter(None, (video, audio)):
            film.mux(stream.encode(None))
