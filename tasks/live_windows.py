"""Windows of a live video, each as soon as it is complete."""

from collections.abc import Iterable, Iterator, Sequence

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
) -> Iterator[tuple[Batch, float]]:
    """A window of `window` frames each `hop` ones, as a batch of one, and the seconds so far; the rest at the end.

    Holds little more than one window in memory.
    """
    live, given = LiveVideo(parameters), 0

    def is_there(number: int) -> bool:
        if live.frames_so_far <= number * hop + window:  # flow needs one frame more
            return False
        *_, last = window_starts(number * hop, clip, window)
        wanted = {name: STREAMS[name].reach(last, clip, live.fps)[1] for name in streams}
        late = live.frames_so_far / live.fps >= max(wanted.values()) + PATIENCE
        return late or all(live.until(name) >= end for name, end in wanted.items())

    def dataset() -> ClipDataset:
        shape = {"streams": streams, "classes": classes, "clip": clip}
        return ClipDataset(live, [live.video], hop=hop, window=window, **shape)

    def read(number: int) -> Batch:
        batch = dataset().__getitems__([(0, number)])
        # the last window begins after this one, but its sound, which must end with the video, may begin earlier
        reach = [STREAMS[name].reach(number * hop, clip, live.fps) for name in streams]
        live.forget(frame=number * hop, row=int(min(2 * begin - end for begin, end in reach) * MEL_RATE))
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
