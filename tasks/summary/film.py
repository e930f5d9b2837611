"""The short film: the kept spans of a video file one after the other, pictures and sound, cut exact to the frame.

Everything is decoded and encoded again, at the file's size and rate: a cut between key frames cannot be had by copying.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.common.stopwatch import Stopwatch
from preprocess.store.codec import encode_rgb
from preprocess.video.container import AV_ERRORS, open_media
from preprocess.video.decoded import Frame
from preprocess.video.decoder import Decoder
from preprocess.video.limits import Limits, Unusable
from tasks.summary.sound import RATE, FilmSound

FASTEST = 60  # pictures a second of the film at most
FADE = RATE // 200  # samples: 5 ms, against clicks where pieces meet
QUALITY = {"crf": "20", "preset": "veryfast"}


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
        film = stack.enter_context(av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}))
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


def film_shape(file: str) -> tuple[Fraction, int]:
    """The rate of the film, and the shorter side of its pictures in square pixels."""
    with open_media(file, max_pixels=Limits().max_pixels) as container:
        video = container.streams.best("video")
        if video is None or video.codec_context is None:
            raise Unusable("no video: it has no pictures")
        rate = Fraction(video.guessed_rate or video.average_rate or 25).limit_denominator(1001)
        width = video.codec_context.width * float(video.sample_aspect_ratio or 1)
        side = max(2, round(min(width, video.codec_context.height)))
    return min(max(rate, Fraction(1)), Fraction(FASTEST)), side


def film_decoder(file: str, rate: Fraction, side: int) -> Decoder:
    return Decoder(file, fps=float(rate), short_side=side, watch=Stopwatch())


def film_pictures(decoder: Decoder, until: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Each picture with the numbers [begin, end) that show it, up to number `until`."""
    place = 0
    for item in decoder:
        if isinstance(item, Frame):
            yield item.rgb, place, place + item.count
            place += item.count
            if place >= until:
                return


def film_streams(film, picture: np.ndarray, rate: Fraction, *, channels: int) -> tuple:
    """The film's streams: H.264, and AAC if there is sound."""
    try:
        video = film.add_stream("libx264", rate=rate, options=QUALITY)
        audio = film.add_stream("aac", rate=RATE, layout="mono" if channels == 1 else "stereo") if channels else None
    except AV_ERRORS as error:
        raise UserError(f"this FFmpeg cannot write H.264 and AAC ({error}): install PyAV from its wheel") from error
    video.height, video.width = (max(2, side - side % 2) for side in picture.shape[:2])  # yuv420p halves both
    video.pix_fmt = "yuv420p"
    video.codec_context.time_base = 1 / rate
    return video, audio


def film_frame(picture: np.ndarray, video, number: int) -> av.VideoFrame:
    pixels = np.ascontiguousarray(picture[: video.height, : video.width])
    large = video.width >= 1280 or video.height > 576  # players take untagged colours of such for BT.709
    colours = Colorspace.ITU709 if large else Colorspace.ITU601
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", dst_colorspace=colours)
    frame.pts, frame.time_base = number, 1 / Fraction(video.codec_context.framerate)
    return frame


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
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=audio.codec_context.layout.name)
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), begin
    film.mux(audio.encode(frame))
