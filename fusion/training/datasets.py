"""Training and validation videos of a run."""

from collections.abc import Sequence

import numpy as np

from fusion.training.run import read_settings
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from streams.batch import ClipDataset
from streams.split import Split


def make_datasets(
    store: Store, split: Split, streams: tuple[str, ...], settings: TrainSettings
) -> tuple[ClipDataset, ClipDataset]:
    """Training and validation videos. Those without any of the streams are left out of training.

    Raises UserError if a stream is in no training video.
    """
    if settings.resume:
        _, saved = read_settings(settings.run)
        if saved["classes"] != store.classes:
            raise UserError(f"{store.path} has other classes than {settings.run} was started with: start a new run")
    by_path = {video.path: video for video in store.videos}
    gone = [path for path in split.train + split.val if path not in by_path]
    if gone:
        raise UserError(f"{store.path} lacks videos that this run trains on, for instance {gone[0]}")
    train_videos, val_videos = ([by_path[path] for path in part] for part in (split.train, split.val))
    check_presence(store, train_videos, streams)
    usable = [video for video in train_videos if any(video.streams[name] for name in streams)]
    shared = {"streams": streams, "classes": store.classes, "clip": settings.recipe.clip}
    return ClipDataset(store, usable, seed=settings.seed, **shared), ClipDataset(store, val_videos, **shared)


def check_presence(store: Store, train_videos: Sequence[Video], streams: Sequence[str]) -> None:
    """Raises UserError for a stream that no training video has."""
    for name in streams:
        if not any(video.streams[name] for video in train_videos):
            why = next(iter(video.why[name] for video in train_videos))
            others = ",".join(other for other in streams if other != name) or "another stream"
            raise UserError(f"no training video of {store.path} has {name} ({why}): train with --streams {others}")


def middle_clips(dataset: ClipDataset, count: int, *, seed: int) -> ClipDataset:
    """The middle clips, not augmented, of `count` of a dataset's videos, or of all if there are fewer."""
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    videos = [dataset.videos[row] for row in sorted(chosen)]
    return ClipDataset(
        dataset.store, videos, streams=tuple(dataset.streams), classes=list(dataset.rows), clip=dataset.clip
    )
