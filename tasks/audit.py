"""Audit a split: leaks, and the top-1 that a model can reach without seeing or hearing anything.

    python -m tasks.audit --data out.h5

Three questions about the training videos and the judged ones:

- Does a group, or a file of identical content, lie on both sides?
- How often is the most frequent class of the training videos right (the label prior)?
- How often is a small classifier right that knows only which streams a video has, how long it is, and the size, rate
  and container of its file? Where that is above the prior, a model may be right for the wrong reasons: in full UCF101
  only 51 of the 101 classes have sound at all.

tasks.evaluate and tasks.ablate print the same with every result.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.store import Store
from preprocess.store.index import Video
from streams.split import Split, split_videos
from tasks.bootstrap import Interval, paired_bootstrap, units_of
from tasks.run import Run
from tasks.settings import AuditSettings
from tasks.shortcut import FACTS, answer_from_facts, prior, read_facts

LEVEL = 0.95  # confidence that no interval of an audit misses
NAMED = 3  # leaks that a table names


@dataclass(frozen=True)
class Side:
    """Labelled videos of a store that are used for one thing."""

    store: Store
    videos: list[Video]


@dataclass(frozen=True)
class Shortcut:
    """The classifier's result with one kind of facts."""

    top1: float
    gain: Interval  # of top-1 over the prior's
    above: bool  # the whole interval is above zero


@dataclass(frozen=True)
class Leak:
    """A group or a content that more than one side has."""

    key: str
    sides: list[str]
    paths: list[str]  # a video of each side


@dataclass(frozen=True)
class Audit:
    """The findings about a split: leaks, and the classifiers that see nothing."""

    videos: dict[str, int]  # of each side
    groups: list[Leak]
    identical: list[Leak]
    judged: int  # videos that the classifier was tested on
    prior: float
    shortcuts: dict[str, Shortcut]  # by the kind of facts


def audit(sides: Mapping[str, Side]) -> Audit:
    """Look at the sides of a split: the first trains, the last is judged.

    Videos of the last that are identical to a training file are listed, and the classifier is not tested on them. The
    intervals are of top-1 minus the prior's, resampled by group, and so wide that together they hold at LEVEL.
    """
    names = list(sides)
    train, judged = sides[names[0]], sides[names[-1]]
    seen = {video.content for video in train.videos}
    tested = [video for video in judged.videos if video.content not in seen]
    if not train.videos or not tested:
        raise UserError(
            f"{judged.store.path} has no labelled videos to judge that are not trained on: nothing to audit"
        )
    labels = [video.label for video in train.videos]
    truth = np.array([video.label for video in tested])
    by_prior = truth == prior(labels)
    known, told = read_facts(train.store, train.videos), read_facts(judged.store, tested)
    units, shortcuts = units_of(tested), {}
    kinds = FACTS | {"all of these": tuple(begin for begins in FACTS.values() for begin in begins)}
    for kind, begins in kinds.items():
        pick = [[{n: f[n] for n in f if n.startswith(begins)} for f in facts] for facts in (known, told)]
        right = truth == np.array(answer_from_facts(pick[0], labels, pick[1]))
        gain = paired_bootstrap(right.astype(float) - by_prior, units, level=1 - (1 - LEVEL) / len(kinds))
        shortcuts[kind] = Shortcut(float(right.mean()), gain, gain.above_zero)
    return Audit(
        videos={name: len(side.videos) for name, side in sides.items()},
        groups=_on_both({name: _paths_by(side, lambda video: video.group) for name, side in sides.items()}),
        identical=_on_both({name: _paths_by(side, lambda video: video.content) for name, side in sides.items()}),
        judged=len(tested),
        prior=float(by_prior.mean()),
        shortcuts=shortcuts,
    )


def audit_split(store: Store, split: Split) -> Audit:
    """The audit of a store and its own split: test videos are judged, or where there are none, validation videos."""
    return audit({name: Side(store, videos) for name, videos in _own_sides(store, split).items()})


def audit_run(run: Run, store: Store, judged: list[Video]) -> Audit:
    """The audit of a run and the videos that it is judged on.

    Copies of its training videos, which are never judged, are listed too. Raises UserError if the store that the run
    was trained on is gone.
    """
    trained = store if _has_training_videos(store, run.split) else Store(run.settings.data)
    if not _has_training_videos(trained, run.split):
        raise UserError(f"{trained.path} does not hold the videos that {run.path} was trained on any more")
    own = _own_sides(trained, run.split)
    itself = {(video.path, video.content) for video in own["train"]}
    splits = {video.split for video in judged}
    copies = [
        video
        for video in store.videos
        if video.content in run.trained_on
        and (video.path, video.content) not in itself
        and video.label is not None
        and video.split in splits
    ]
    sides = {"train": Side(trained, own["train"]), "judged": Side(store, [*judged, *copies])}
    if not {video.path for video in judged} & {video.path for video in own["val"]}:
        sides = {"train": sides["train"], "val": Side(trained, own["val"]), "judged": sides["judged"]}
    return audit(sides)


def warnings(result: Audit) -> list[str]:
    """A line for each thing that makes results better than they are."""
    lines = []
    above = {kind: found for kind, found in result.shortcuts.items() if found.above}
    if above:
        kind, best = max(above.items(), key=lambda item: item[1].top1)
        what = f"{kind} alone" if kind in FACTS else f"what the files say of themselves ({', '.join(FACTS)})"
        lines.append(
            f"warning: from {what} a classifier has {best.top1:.1%} top-1, from the label prior "
            f"{result.prior:.1%}: a model may be right without seeing or hearing anything"
        )
    for leaks, noun in ((result.groups, "group"), (result.identical, "file")):
        if leaks:
            lies = "lie" if len(leaks) > 1 else "lies"
            what = f"{plural(len(leaks), noun)} {lies} on both sides of the split"
            lines.append(f"warning: {what}: results on them do not speak of new videos")
    return lines


def audit_table(result: Audit) -> tuple[list[str], list[list[str]]]:
    """Head and rows for people."""
    rows = [
        ["videos", "", ", ".join(f"{name} {count}" for name, count in result.videos.items())],
        ["groups on both sides", "", _some(result.groups, lambda leak: leak.key)],
        ["identical files on both sides", "", _some(result.identical, lambda leak: " = ".join(leak.paths))],
        ["label prior", f"{result.prior:.1%}", ""],
    ]
    for kind, found in result.shortcuts.items():
        low, high = found.gain.low, found.gain.high
        interval = "one group: no interval" if low is None else f"{signed_points(low)} to {signed_points(high)} points"
        rows.append([f"{kind} alone" if kind in FACTS else kind, f"{found.top1:.1%}", f"above the prior: {interval}"])
    return ["audit", "top-1", "found"], rows


def signed_points(share: float) -> str:
    """-0.0312 → '−3.1'"""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


def print_audit(result: Audit) -> None:
    """The table, and what it warns of."""
    print_table(*audit_table(result))
    for line in warnings(result):
        print(line)


def _own_sides(store: Store, split: Split) -> dict[str, list[Video]]:
    """The labelled videos of each side, test videos last if there are any."""
    train, val = set(split.train), set(split.val)
    sides: dict[str, list[Video]] = {"train": [], "val": [], "test": []}
    for video in store.videos:
        if video.path in train:
            sides["train"].append(video)
        elif video.path in val:
            sides["val"].append(video)
        elif video.split == "test" and video.label is not None:
            sides["test"].append(video)
    return {name: videos for name, videos in sides.items() if videos or name != "test"}


def _has_training_videos(store: Store, split: Split) -> bool:
    """True if a store has all training videos of a split, by name and content."""
    content = {video.path: video.content for video in store.videos}
    return {content.get(path) for path in split.train} == {*split.train_content}


def _paths_by(side: Side, key: Callable[[Video], str | None]) -> dict[str, str]:
    """The key of a video → the path of one video with it."""
    return {key(video): video.path for video in side.videos if key(video) is not None}


def _on_both(sides: dict[str, dict[str, str]]) -> list[Leak]:
    """Keys that more than one side has."""
    found = defaultdict(list)
    for name, keys in sides.items():
        for key in keys:
            found[key].append(name)
    return [
        Leak(key, names, [sides[name][key] for name in names]) for key, names in sorted(found.items()) if len(names) > 1
    ]


def _some(leaks: list[Leak], shown: Callable[[Leak], str]) -> str:
    named = "; ".join(f"{one_line(shown(leak))} ({', '.join(leak.sides)})" for leak in leaks[:NAMED])
    return (f"{named} and {len(leaks) - NAMED} more" if len(leaks) > NAMED else named) or "none"


def main(settings: AuditSettings | None = None) -> None:
    settings = settings or parse_command(AuditSettings, prog="python -m tasks.audit", doc=__doc__)
    at_least(0, split_seed=settings.split_seed)
    store = Store(settings.data)
    split = split_videos(store.videos, seed=settings.split_seed, name=str(store.path))
    print(f"{store.path}: {split.how}")
    print_audit(audit_split(store, split))


if __name__ == "__main__":
    run_command(main)
