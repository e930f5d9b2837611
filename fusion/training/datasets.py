"""Training and validation videos of a run."""

from collections.abc import Sequence

import numpy as np

from fusion.training.pretrain import PRETEXTS
from fusion.training.run import read_settings
from fusion.training.settings import Recipe, TrainSettings
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.store.kinds import Given
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.given import parse_blend
from streams.split import Split


def known_classes(store: Store, recipe: Recipe) -> list[str]:
    """The classes that a run learns: none if it pretrains, so that no label can reach it."""
    return [] if recipe.pretrain else store.classes


def make_datasets(
    store: Store, split: Split, streams: tuple[str, ...], settings: TrainSettings
) -> tuple[ClipDataset, ClipDataset]:
    """Training and validation videos. Those without any of the streams are left out of training.

    To pretrain, a video may need two of several streams; each stream draws its own geometry, by which two could else be
    matched, and validation clips are drawn as training clips are, once for all epochs.

    Raises UserError if a stream is in no training video, or one is blended that was not given.
    """
    check_blend(store, settings.recipe.clip, streams)
    pretrain, classes = settings.recipe.pretrain, known_classes(store, settings.recipe)
    if settings.resume:
        _, saved = read_settings(settings.run)
        if saved["classes"] != classes:
            raise UserError(f"{store.path} has other classes than {settings.run} was started with: start a new run")
    by_path = {video.path: video for video in store.videos}
    gone = [path for path in split.train + split.val if path not in by_path]
    if gone:
        raise UserError(f"{store.path} lacks videos that this run trains on, for instance {gone[0]}")
    train_videos, val_videos = ([by_path[path] for path in part] for part in (split.train, split.val))
    check_presence(store, train_videos, streams)
    least = min(PRETEXTS[pretrain].needed, len(streams)) if pretrain else 1
    usable = [video for video in train_videos if sum(video.streams[name] for name in streams) >= least]
    if not usable:
        raise UserError(f"no training video of {store.path} has two of {', '.join(streams)}: pretrain them one by one")
    shared = {"streams": streams, "classes": classes, "clip": settings.recipe.clip, "apart": bool(pretrain)}
    val_seed = settings.seed if pretrain else None
    return ClipDataset(store, usable, seed=settings.seed, **shared), ClipDataset(
        store, val_videos, seed=val_seed, **shared
    )


def check_blend(store: Store, clip: ClipSettings, streams: Sequence[str]) -> None:
    """Raises UserError for a stream of --blend that is not among these, or whose features were not given."""
    for name in parse_blend(clip.blend):
        if name not in streams or not isinstance(store.kinds[name], Given):
            those = ", ".join(one for one in streams if isinstance(store.kinds[one], Given)) or "none"
            raise UserError(f"--blend {name}=…: name a stream of given features that this run trains; it has {those}")


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
