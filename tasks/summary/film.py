"""The short film: the kept spans of a video file one after the other, pictures and sound, cut exact to the frame.

Everything is decoded and encoded again, at the file's size and rate: a cut between key frames cannot be had by copying.
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store.codec import encode_rgb
from preprocess.video.limits import Unusable
from tasks.film.reading import film_decoder, film_pictures, film_shape
from tasks.film.sound import RATE, FilmSound
from tasks.film.writing import film_frame, film_streams, open_film, sound_frame

FADE = RATE // 200  # samples: 5 ms, against clicks where pieces meet


@dataclass(frozen=True)
class Span:
    """Pictures [first, last) of the video at the film's rate."""

    first: int
    last: int


def write_film(path: Path, file: Path, kept: Sequence[tuple[float, float]]) -> float:
    """Write the spans of `file` that begin and end at these seconds, in the order of time, as an MP4; its seconds.

    Raises UserError if the file cannot be decoded, or nothing of it lies in the spans.
    """
    try:
        length = 0.0

        def write(part: Path) -> None:
            nonlocal length
            length = _write(part, str(file), kept)

        write_aside(path, write)
    except Unusable as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    return length


def write_pictures(folder: Path, file: Path, moments: Sequence[float], *, names: Sequence[str]) -> None:
    """Write the pictures of `file` at these seconds, in any order, as JPEGs of full size with these names.

    Raises UserError if the file cannot be decoded.
    """
    try:
        rate, side = film_shape(str(file))
        wanted = sorted((int(moment * rate), name) for moment, name in zip(moments, names, strict=True))
        until, picture = wanted[-1][0] + 1, None
        for picture, _, end in film_pictures(film_decoder(str(file), rate, side), until):
            while wanted and wanted[0][0] < end:
                _write_jpeg(folder / wanted.pop(0)[1], picture)
        for _, name in wanted:  # the video ends a little earlier than its store says
            _write_jpeg(folder / name, picture)
    except Unusable as error:
        raise UserError(f"{file} cannot be used: {error}") from error


def spans_at(kept: Sequence[tuple[float, float]], rate: Fraction) -> list[Span]:
    """Seconds as whole pictures, in the order of time; those that meet are one."""
    spans: list[Span] = []
    for begin, end in sorted(kept):
        first, last = round(begin * rate), round(end * rate)
        if spans and first <= spans[-1].last:
            spans[-1] = Span(spans[-1].first, max(last, spans[-1].last))
        elif last > first:
            spans.append(Span(first, last))
    return spans


def _write(part: Path, file: str, kept: Sequence[tuple[float, float]]) -> float:
    rate, side = film_shape(file)
    spans, decoder = spans_at(kept, rate), film_decoder(file, rate, side)
    if not spans:
        raise UserError(f"nothing of {file} is kept: give a larger --share")
    written, current = 0, 0  # pictures; the span that they belong to
    with ExitStack() as stack:
        film = stack.enter_context(open_film(part))
        video = audio = sound = None
        for picture, begin, end in film_pictures(decoder, spans[-1].last):
            while current < len(spans) and begin < spans[current].last and end > spans[current].first:
                if video is None:
                    assert decoder.pictures is not None and decoder.pictures.clock.start is not None
                    sound = stack.enter_context(closing(FilmSound(file, start=decoder.pictures.clock.start)))
                    video, audio = film_streams(film, picture, rate, channels=sound.channels)
                span = spans[current]
                for _ in range(max(begin, span.first), min(end, span.last)):
                    film.mux(video.encode(film_frame(picture, video, written)))
                    written += 1
                if end < span.last:
                    break
                _add_sound(film, audio, sound, span, written, rate)
                current += 1
        if video is None:
            raise UserError(f"nothing of {file} can be decoded where pieces are kept")
        if current < len(spans) and written > (before := sum(one.last - one.first for one in spans[:current])):
            cut = Span(spans[current].first, spans[current].first + written - before)  # the video ended within it
            _add_sound(film, audio, sound, cut, written, rate)
        for stream in filter(None, (video, audio)):
            film.mux(stream.encode(None))
    return float(written / rate)


def _write_jpeg(path: Path, picture: np.ndarray) -> None:
    jpeg = encode_rgb(picture).tobytes()
    write_aside(path, lambda part: part.write_bytes(jpeg))


def _add_sound(film, audio, sound: FilmSound, span: Span, written: int, rate: Fraction) -> None:
    """Encode the sound of a span whose last picture is the film's number `written`."""
    if audio is None:
        return
    begin, end = (round(place * RATE / rate) for place in (written - (span.last - span.first), written))
    samples = sound.take(round(span.first * RATE / rate), end - begin)
    fade = min(FADE, samples.shape[1] // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
    samples[:, :fade] *= ramp
    samples[:, samples.shape[1] - fade :] *= ramp[::-1]
    film.mux(audio.encode(sound_frame(samples, audio, begin)))
