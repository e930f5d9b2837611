"""A camera, an address or a file as a live video."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av

from preprocess.common.errors import UserError, at_least
from preprocess.common.files import local_path
from preprocess.common.stopwatch import Stopwatch
from preprocess.video.address import is_address, open_address, open_camera
from preprocess.video.arrival import Lasting, Over, arriving, paced
from preprocess.video.buffer import LiveBuffer
from preprocess.video.decoded import Item
from preprocess.video.decoder import Decoder
from preprocess.video.limits import Limits, Unusable

ENDLESS = Limits(max_seconds=float("inf"), max_frames=1 << 62)


def capture(
    source: str,
    *,
    parameters: dict,
    in_time: bool = False,
    patience: float = 10.0,
    reconnect: float = 60.0,
    seconds: float | None = None,
    note: Callable[[str], None] = lambda text: None,
    stop: Callable[[], bool] = lambda: False,
) -> LiveBuffer:
    """A camera's number, an address (rtsp://…) or a file as pictures and sound of a store with such `parameters`.

    Args:
        in_time: hand a file's pictures out by their times, as a camera would, and drop those that nobody takes in time;
            otherwise a file is decoded as fast as it is used, and nothing is dropped.
        patience: seconds to wait for the first picture, and later for the next one before the source counts as lost.
        reconnect: seconds for which a lost camera or address is tried again.
        seconds: end after so many of the video's.
        note: takes a line for people, from another thread.
        stop: asked all the time; end as soon as it says so.

    Raises:
        UserError: no such file; a number that is out of its range. Iterating raises it for a source that cannot be
            reached or decoded, or sends nothing.
    """
    at_least(0.1, patience=patience)
    at_least(0, reconnect=reconnect)
    if seconds is not None:
        at_least(0.1, seconds=seconds)
    fps, size = parameters["fps"], {"fps": parameters["fps"], "short_side": parameters["short_side"]}
    lasts = source.isdecimal() or is_address(source)
    if lasts:
        opener = partial(open_camera if source.isdecimal() else open_address, patience=patience)
        connect = partial(_connection, source, opener, in_time=in_time, patience=patience, **size)
        items = Lasting(connect, fps=fps, reconnect=reconnect, note=note)
    else:
        file = local_path(source)
        if not file.is_file():
            raise UserError(_no_file(file))
        decoder = Decoder(str(file), watch=Stopwatch(), limits=ENDLESS, **size)
        items = paced(decoder, fps=fps) if in_time else arriving(decoder)
    name = f"camera {source}" if source.isdecimal() else source
    lossless = not lasts and not in_time
    return LiveBuffer(items, name=name, fps=fps, patience=patience, lossless=lossless, seconds=seconds, stop=stop)


def _no_file(file: Path) -> str:
    what = "is a folder" if file.is_dir() else "is no file"
    return f"{file} {what}: name a video file, an address (rtsp://…), or the number of a camera (0)"


def _connection(
    source: str,
    opener: Callable[..., av.container.InputContainer],
    *,
    fps: float,
    short_side: int,
    in_time: bool,
    patience: float,
) -> Iterator[tuple[float, Item]]:
    """The items of one connection.

    Raises Unusable if it cannot be made, or if sound comes without pictures; Over after a recording.
    """
    is_recording = False

    def open_live(name: str, *, max_pixels: int) -> av.container.InputContainer:
        nonlocal is_recording
        container = opener(name, max_pixels=max_pixels)
        is_recording = bool(container.duration)
        return container

    watched = _PictureWatch(patience)
    shape = {"fps": fps, "short_side": short_side, "watch": Stopwatch(), "limits": ENDLESS}
    items = Decoder(source, heartbeat=watched.beat, open_live=open_live, **shape)
    yield from paced(items, fps=fps) if in_time else arriving(items)
    if is_recording:
        raise Over


class _PictureWatch:
    """Notices pictures that stop while sound goes on, which no wait for the network ends."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seconds, self._at = 0.0, time.monotonic()

    def beat(self, seconds: float) -> None:
        """Takes the seconds of pictures that were decoded so far, after each packet."""
        now = time.monotonic()
        if seconds > self._seconds:
            self._seconds, self._at = seconds, now
        elif now - self._at > self._patience:
            raise Unusable(f"no picture came within {self._patience:g} s")
