"""What a user should know before a run begins: settings that the data or the machine do not suit."""

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np

from preprocess.common.console import human_bytes, plural
from preprocess.common.processes import available_memory
from preprocess.store.kinds import Pictures
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.loader import AHEAD
from streams.split import Split

NAMED = 3  # classes that a note names
SHARED = "/dev/shm"  # where reading processes put their clips


def run_notes(
    dataset: ClipDataset, split: Split, *, streams: Sequence[str], batch: int, workers: int, processes: int
) -> Iterator[str]:
    """Notes about a run, a line each; none where all is well.

    Args:
        dataset: the training videos that have any of the streams.
        streams: the run's; the dataset may read a teacher's too.
        batch: clips that a process reads at a time.
        workers: reading processes of each of the `processes` of the run on this machine.
    """
    if len(dataset) < len(split.train):
        left_out = plural(len(split.train) - len(dataset), "training video")
        yield f"{left_out} without {' and '.join(streams)}: left out"
    trained = {video.label for video in dataset.videos}
    lacking = [name for name in dataset.rows if name not in trained]
    if lacking:
        named = ", ".join(lacking[:NAMED]) + (" …" if len(lacking) > NAMED else "")
        yield (
            f"{len(lacking)} of {len(dataset.rows)} classes without a training video ({named}): judged, "
            f"and never learned; give some of their videos the split train"
        )
    kinds = dataset.store.kinds
    if any(isinstance(kinds[name], Pictures) for name in dataset.streams):
        shapes = [dataset.clip.of(name) for name in dataset.streams if isinstance(kinds[name], Pictures)]
        for clip in dict.fromkeys(shapes):
            yield from _picture_notes(dataset, clip)
    yield from _memory_notes(dataset, clips=(AHEAD * workers + 1) * batch * processes, shared=workers > 0)


def _picture_notes(dataset: ClipDataset, clip: ClipSettings) -> Iterator[str]:
    stored = dataset.store.parameters["short_side"]
    if clip.size > stored:
        yield (
            f"--size {clip.size} is more than is stored, {stored} pixels of the short side: enlarging adds nothing; "
            f"lower it, or extract with a larger --short-side"
        )
    reach = (clip.frames - 1) * clip.stride + 1
    short = sum(video.frames < reach for video in dataset.videos)
    if 2 * short > len(dataset):
        yield (
            f"a clip of --frames {clip.frames} with --stride {clip.stride} spans {reach} frames "
            f"({reach / dataset.store.fps:.1f} s), and {short} of {len(dataset)} training videos are shorter: "
            f"they begin anew within it; lower --frames or --stride"
        )
    elif 2 * (short := sum(video.frames < clip.length for video in dataset.videos)) > len(dataset):
        yield (
            f"--segments {clip.segments} of {clip.span} frames are {clip.length} "
            f"({clip.length / dataset.store.fps:.1f} s), and {short} of {len(dataset)} training videos are shorter: "
            f"segments overlap; lower --segments, --frames or --stride"
        )


def _memory_notes(dataset: ClipDataset, *, clips: int, shared: bool) -> Iterator[str]:
    """shared: the clips are read by other processes, and lie in shared memory."""
    needed = clips * sum(
        math.prod(shape) * np.dtype(dtype).itemsize
        for name, stream in dataset.streams.items()
        for shape, dtype in stream.shapes(dataset.store.parameters, dataset.clip.of(name)).values()
    )
    free = {"memory": available_memory()}
    if shared and os.path.isdir(SHARED):
        room = os.statvfs(SHARED)
        free[f"shared memory ({SHARED})"] = room.f_bavail * room.f_frsize
    what, least = min(free.items(), key=lambda item: item[1])
    if needed > least:
        yield (
            f"{clips} clips read ahead take {human_bytes(needed)}, and {human_bytes(least)} of {what} are free: "
            f"lower --batch, --frames or --workers"
        )
