"""Windows of a live video, each as soon as it is complete."""

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from preprocess.store.format import MEL_RATE
from preprocess.video.decoded import Item
from preprocess.video.live import LiveVideo
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings, Starts, window_starts

PATIENCE = 1.0  # seconds that sound may lag behind the pictures; after that a window is given without the missing sound


@dataclass(frozen=True)
class LiveBatch:
    """A window as a batch of one, and when it was made."""

    batch: Batch
    seconds: float  # of the video so far
    complete: float  # time.monotonic() when the last picture or sound that it needed was taken
    ready: float  # and when flow and log-mel were there


def live_batches(
    items: Iterable[Item],
    *,
    parameters: dict,
    streams: Sequence[str],
    classes: Sequence[str],
    clip: ClipSettings,
    hop: int,
    window: int,
    whole_strides: Collection[str] = (),
) -> Iterator[LiveBatch]:
    """A window of `window` frames each `hop` ones; the rest at the end. Where nothing is there, none is given.

    Holds little more than one window in memory.
    """
    live, given = LiveVideo(parameters), 0

    def is_there(number: int) -> bool:
        if live.frames_so_far <= number * hop + window:  # flow needs one frame more
            return False
        *_, last = window_starts(number * hop, clip, window)
        wanted = {name: reach(name, last)[1] for name in streams}
        late = live.frames_so_far / live.fps >= max(wanted.values()) + PATIENCE
        return late or all(
            live.until(name) >= end or live.has_stopped(name, patience=PATIENCE) for name, end in wanted.items()
        )

    def dataset(starts: Starts | None = None) -> ClipDataset:
        """The video so far, or, of a window whose segments begin there, with the streams that have come."""
        shape = {"streams": streams, "classes": classes, "clip": clip, "whole_strides": whole_strides}
        reaches = {name: [reach(name, start) for start in starts or ()] for name in streams}
        video = live.video if starts is None else live.within(reaches)
        return ClipDataset(live, [video], hop=hop, window=window, **shape)

    def reach(name: str, start: int) -> tuple[float, float]:
        """The interval that a stream's part of the segment from `start` on covers, in a video that does not end."""
        so_far = dataset()
        (own,) = so_far.own_starts(name, (start,), math.inf)
        return so_far.streams[name].reach(own, clip.of(name), live.fps)

    def read(number: int, complete: float) -> Iterator[LiveBatch]:
        shape, begin = dataset(dataset().starts(live.video)[number]), (number * hop,)
        batch = shape.__getitems__([(0, number)])
        # the last window begins after this one, but its sound, which must end with the video, may begin earlier
        frame = min(min(shape.own_starts(name, begin, live.frames_so_far)) for name in streams)
        reaches = [reach(name, *begin) for name in streams]
        row = int(min(2 * first - end for first, end in reaches) * MEL_RATE)
        live.forget(frame=frame, row=row)
        if any(there.any() for there in batch.present.values()):
            yield LiveBatch(batch, live.video.seconds, complete, time.monotonic())

    for item in items:
        taken = time.monotonic()
        live.push(item)
        while is_there(given):
            yield from read(given, taken)
            given += 1
    taken = time.monotonic()
    live.end()
    if live.frames_so_far:
        for number in range(given, len(dataset().starts(live.video))):
            yield from read(number, taken)
