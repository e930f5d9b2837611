"""Clips of a run's training videos, as its exported files take them."""

from collections.abc import Iterator

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store import Store
from streams.batch import ClipDataset
from streams.loader import ViewBatches, make_loader
from tasks.run import Run

BATCH = 8

Feed = dict[str, np.ndarray]  # an exported file's inputs: (B, ...)


def training_feeds(run: Run, store: Store, *, count: int, seed: int) -> dict[str, list[Feed]]:
    """stream → batches of up to `count` clips from the middles of training videos that have it, drawn by the seed.

    Raises UserError if the store has none of the videos that the run was trained on.
    """
    own = set(run.split.train)
    videos = [video for video in store.videos if video.path in own and video.content in run.trained_on]
    if not videos:
        raise UserError(f"{store.path} has no video that {run.path} was trained on: give its store with --data")
    drawn = np.random.default_rng(seed).permutation(len(videos))[:count]
    model = run.model
    shape = {"streams": model.streams, "classes": model.classes, "clip": model.clip}
    dataset = ClipDataset(store, [videos[at] for at in drawn], whole_strides=model.whole_strides, **shape)
    feeds: dict[str, list[Feed]] = {name: [] for name in model.streams}
    for batch in make_loader(dataset, ViewBatches(dataset, batch=BATCH), workers=0, pin=False):
        for name, clips in batch.clips.items():
            if batch.present[name].any():
                feeds[name].append({part: clip[batch.present[name]].numpy() for part, clip in clips.items()})
    return feeds


def split_feeds(feeds: list[Feed]) -> tuple[list[Feed], list[Feed]]:
    """Four fifths of the batches and the rest; of a single one, the same twice."""
    cut = max(1, round(0.8 * len(feeds)))
    return feeds[:cut], feeds[cut:] or feeds[:1]


def feed_reader(feeds: list[Feed]):
    """The batches in the form that onnxruntime's calibration takes."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.left, None)

    return Reader()
