"""Windows of a live video, each as soon as it is complete."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from preprocess.store.format import MEL_RATE
from preprocess.video.decoded import Frame, Samples
from preprocess.video.live import LiveVideo
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
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
    whole_strides: Collection[str] = (),
) -> Iterator[tuple[Batch, float]]:
    """A window each `hop` frames, as a batch of one, and the seconds so far; the rest when the items end.

    Holds little more than one window in memory.
    """
    live, given = LiveVideo(parameters), 0

    def is_there(number: int) -> bool:
        if live.frames_so_far <= number * hop + clip.span:  # flow needs one frame more
            return False
        wanted = {name: end for name, (_, end) in reaches(number).items()}
        late = live.frames_so_far / live.fps >= max(wanted.values()) + PATIENCE
        return late or all(live.until(name) >= end for name, end in wanted.items())

    def dataset() -> ClipDataset:
        shape = {"streams": streams, "classes": classes, "clip": clip, "hop": hop, "whole_strides": whole_strides}
        return ClipDataset(live, [live.video], **shape)

    def reaches(number: int) -> dict[str, tuple[float, float]]:
        """The interval that each stream's part of a window covers, in seconds, however long the video becomes."""
        shape = dataset()
        starts = {name: shape.own_start(name, number * hop, math.inf) for name in streams}
        return {name: STREAMS[name].reach(starts[name], clip.of(name), live.fps) for name in streams}

    def window(number: int) -> Batch:
        shape = dataset()
        batch = shape.__getitems__([(0, number)])
        # the last window begins after this one, but its sound, which must end with the video, may begin earlier
        frame = min(shape.own_start(name, number * hop, live.frames_so_far) for name in streams)
        row = int(min(2 * begin - end for begin, end in reaches(number).values()) * MEL_RATE)
        live.forget(frame=frame, row=row)
        return batch

    for item in items:
        live.push(item)
        while is_there(given):
            yield window(given), live.video.seconds
            given += 1
    live.end()
    if live.frames_so_far:
        for number in range(given, len(dataset().starts(live.video))):
            yield window(number), live.video.seconds
