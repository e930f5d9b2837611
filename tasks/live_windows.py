"""Windows of a video that still goes on, each as soon as all of it is there."""

from collections.abc import Iterable, Iterator, Sequence

from preprocess.store.format import MEL_RATE
from preprocess.video.decoder import Frame, Samples
from preprocess.video.live import LiveVideo
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.registry import STREAMS

PATIENCE = 1.0  # seconds that sound may lag behind the pictures; then a window is given without what is missing of it


def live_batches(
    items: Iterable[Frame | Samples],
    *,
    parameters: dict,
    streams: Sequence[str],
    classes: Sequence[str],
    clip: ClipSettings,
    hop: int,
) -> Iterator[tuple[Batch, float]]:
    """A window as a batch of its own each `hop` frames, and the seconds so far; when the items end, what is left.

    Memory holds little more than one window.
    """
    live, given = LiveVideo(parameters), 0

    def is_there(number: int) -> bool:
        if live.frames_so_far <= number * hop + clip.span:  # flow runs to one frame more
            return False
        wanted = {name: STREAMS[name].reach(number * hop, clip, live.fps)[1] for name in streams}
        late = live.frames_so_far / live.fps >= max(wanted.values()) + PATIENCE
        return late or all(live.until(name) >= end for name, end in wanted.items())

    def dataset() -> ClipDataset:
        return ClipDataset(live, [live.video], streams=streams, classes=classes, clip=clip, hop=hop)

    def window(number: int) -> Batch:
        batch = dataset().__getitems__([(0, number)])
        # the last window begins after this one, and its sound, which must end with the video, up to its length earlier
        reach = [STREAMS[name].reach(number * hop, clip, live.fps) for name in streams]
        live.forget(frame=number * hop, row=int(min(2 * begin - end for begin, end in reach) * MEL_RATE))
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
