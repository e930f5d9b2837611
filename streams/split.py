"""The split into training and validation videos: by whole groups, never with clips of one group on both sides."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store.index import Video

VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Paths of training and validation videos, and a note on the method."""

    train: list[str]
    val: list[str]
    how: str  # one sentence
    train_content: list[str]  # digests of the training files, which identify them in any store
    val_content: list[str] = field(default_factory=list)  # of the validation files; empty in runs of older releases


def split_videos(videos: Sequence[Video], *, seed: int, name: str = "the store", with_labels: bool = True) -> Split:
    """Split labelled videos into training and validation.

    By the split column if the labels had one; test videos are not used, and if it names no validation videos,
    whole groups of its training videos become validation videos. Otherwise by group: from the group column or from
    names like v_Archery_g08_c01; a video without a group is its own. Identical files always stay together. Without
    labels all videos are taken alike, whether they have one or not.

    Raises UserError if there are too few videos or groups to split.
    """
    if with_labels:
        labelled = [video for video in videos if video.label is not None]
    else:
        labelled = [replace(video, label="") for video in videos]
    if not labelled:
        raise UserError(f"no video of {name} has a label: sort the videos into class folders or extract with --labels")
    if any(video.split for video in labelled):
        train = [video for video in labelled if video.split == "train"]
        val = [video for video in labelled if video.split == "val"]
        if train and val:
            return _split(train, val, "by the split column of the labels")
        if not train:
            raise UserError(f"the split column of {name} names no training videos: give some the split train")
        given = "training videos of the split column, divided "
    else:
        train, given = labelled, ""
    train, val = _by_group(train, seed, name)
    grouped = sum(video.group is not None for video in train + val)
    if grouped:
        named = len({video.group for video in train + val if video.group})
        how = f"by group ({named} groups from the group column or from names like v_Archery_g08_c01)"
        if grouped < len(train) + len(val):
            how += f", {len(train) + len(val) - grouped} videos without one by video"
    else:
        how = "by video, since neither a column nor the names tell groups"
    return _split(train, val, given + how)


def _by_group(videos: list[Video], seed: int, name: str) -> tuple[list[Video], list[Video]]:
    """Move whole groups to validation until each class has its share there, but never a class's last group."""
    groups = group_videos(videos)
    order = np.random.default_rng(seed).permutation(len(groups))
    left = defaultdict(int)  # class → groups left for training
    wanted = defaultdict(float)  # class → videos still to move
    for group in groups:
        for label in {video.label for video in group}:
            left[label] += 1
        for video in group:
            wanted[video.label] += VALIDATION_SHARE
    train, val, validated = [groups[number] for number in order], [], set()

    def move(wants: Callable[[str, int], bool]) -> None:
        nonlocal train
        stay = []
        for group in train:
            counts = Counter(video.label for video in group)
            if all(left[label] > 1 for label in counts) and any(wants(*item) for item in counts.items()):
                val.append(group)
                validated.update(counts)
                for label, count in counts.items():
                    left[label] -= 1
                    wanted[label] -= count
            else:
                stay.append(group)
        train = stay

    move(lambda label, count: wanted[label] >= count / 2)  # moves that bring the class nearer to its share
    train.sort(key=len)
    move(lambda label, _: wanted[label] >= 0.5 and label not in validated)  # a class of large groups: its smallest
    if not val:
        move(lambda label, _: label not in validated)  # classes of two videos
    if not val:
        raise UserError(
            f"{name} cannot be split: every class has one group of videos only; add videos, or name the split of "
            f"each in a labels file (columns path,label,split)"
        )
    return [v for group in train for v in group], [v for group in val for v in group]


def group_videos(videos: Sequence[Video]) -> list[list[Video]]:
    """Lists of videos that share a group or have identical files."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for video in videos:
        parent[root(f"group {video.group}" if video.group else f"path {video.path}")] = root(f"file {video.content}")
    groups = defaultdict(list)
    for video in sorted(videos, key=lambda video: video.path):
        groups[root(f"file {video.content}")].append(video)
    return list(groups.values())


def group_numbers(videos: Sequence[Video]) -> list[int]:
    """The number of each video's group; a video without one is its own."""
    number = {video.path: group for group, members in enumerate(group_videos(videos)) for video in members}
    return [number[video.path] for video in videos]


def _split(train: list[Video], val: list[Video], how: str) -> Split:
    return Split(
        train=sorted(video.path for video in train),
        val=sorted(video.path for video in val),
        how=how,
        train_content=sorted({video.content for video in train}),
        val_content=sorted({video.content for video in val}),
    )
