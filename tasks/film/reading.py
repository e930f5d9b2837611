"""A video file's pictures at its own rate and size, for a film of it."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.container import open_media
from preprocess.video.decoded import Frame
from preprocess.video.decoder import Decoder
from preprocess.video.limits import Limits, Unusable

FASTEST = 60  # pictures a second of the film at most


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
    """Its pictures at that rate and size."""
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
