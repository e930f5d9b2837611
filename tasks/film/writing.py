"""A film: an MP4 of H.264, and AAC if there is sound, that plays everywhere."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from preprocess.common.errors import UserError
from preprocess.video.container import AV_ERRORS
from tasks.film.sound import RATE

QUALITY = {"crf": "20", "preset": "veryfast"}


def open_film(path: Path):
    """An empty MP4 that can be played before all of it has come."""
    return av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})


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


def sound_frame(samples: np.ndarray, audio, begin: int) -> av.AudioFrame:
    """(channels, N) float32, from the film's sample number `begin` on."""
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=audio.codec_context.layout.name)
    frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), begin
    return frame
