"""Windows of a live video, each as soon as it is complete."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from preprocess.store.format import MEL_RATE
from preprocess.video.decoded import Frame, Samples
from preprocess.video.live import LiveVideo
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings, window_starts
from streams.registry import STREAMS

PATIENCE = 1.0  # seconds that sound may lag behind the pictures; after that a window is given without the missing sound


def live_batches(
    items: Iterable[Frame | Samples],
    *,
    parameters: dict,
    streams: Sequence[str],
    classes: Sequence[str],
    clip: ClipSettings,
    hop: int,
    window: int,
    whole_strides: Collection[str] = (),
) -> Iterator[tuple[Batch, float]]:
    """A window of `window` frames each `hop` ones, as a batch of one, and the seconds so far; the rest at the end.

    Holds little more than one window in memory.
    """
    live, given = LiveVideo(parameters), 0

    def is_there(number: int) -> bool:
        if live.frames_so_far <= number * hop + window:  # flow needs one frame more
            return False
        *_, last = window_starts(number * hop, clip, window)
        wanted = {name: reach(name, last)[1] for name in streams}
        late = live.frames_so_far / live.fps >= max(wanted.values()) + PATIENCE
        return late or all(live.until(name) >= end for name, end in wanted.items())

    def dataset() -> ClipDataset:
        shape = {"streams": streams, "classes": classes, "clip": clip, "whole_strides": whole_strides}
        return ClipDataset(live, [live.video], hop=hop, window=window, **shape)

    def reach(name: str, start: int) -> tuple[float, float]:
        """The interval that a stream's part of the segment from `start` on covers, in a video that does not end."""
        (own,) = dataset().own_starts(name, (start,), math.inf)
        return STREAMS[name].reach(own, clip.of(name), live.fps)

    def read(number: int) -> Batch:
        shape, begin = dataset(), (number * hop,)
        batch = shape.__getitems__([(0, number)])
        # the last window begins after this one, but its sound, which must end with the video, may begin earlier
        frame = min(min(shape.own_starts(name, begin, live.frames_so_far)) for name in streams)
        reaches = [reach(name, *begin) for name in streams]
        row = int(min(2 * first - end for first, end in reaches) * MEL_RATE)
        live.forget(frame=frame, row=row)
        return batch

    for item in items:
        live.push(item)
        while is_there(given):
            yield read(given), live.video.seconds
            given += 1
    live.end()
    if live.frames_so_far:
        for number in range(given, len(dataset().starts(live.video))):
            yield read(number), live.video.seconds
