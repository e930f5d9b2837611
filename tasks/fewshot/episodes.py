"""Episodes: a few known videos of some classes, and others of the same classes that are asked about."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from preprocess.store.index import Video
from streams.split import group_numbers

TRIES = 1000  # draws of a class's videos before it is said to have too few groups


@dataclass(frozen=True)
class Episode:
    """Indices of videos."""

    support: tuple[int, ...]
    query: tuple[int, ...]


@dataclass(frozen=True)
class Episodes:
    """Sets of episodes over V videos."""

    videos: list[Video]  # (V,)
    labels: list[str]  # (V,)
    sets: dict[str, list[Episode]]


def read_episodes(path: Path, store: Store) -> Episodes:
    """Fixed episodes: {"clips": […], "labels": […], "sets": {name: [{"support": [index …], "query": [index …]} …]}}.

    A clip is found in the store by its file's name without folders and suffix.

    Raises UserError for a file of another form, a clip that the store lacks, or an episode that asks about a class of
    which it knows no video.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        clips, labels = list(map(str, given["clips"])), list(map(str, given["labels"]))
        sets = {
            str(name): [Episode(tuple(map(int, one["support"])), tuple(map(int, one["query"]))) for one in episodes]
            for name, episodes in given["sets"].items()
        }
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no episodes (docs/fewshot.md): {error!r}") from error
    if len(clips) != len(labels):
        raise UserError(f"{path} has {plural(len(clips), 'clip')}, but {plural(len(labels), 'label')}")
    by_name = {Path(name).stem: row for row, name in enumerate(store.columns["path"])}
    lacking = [clip for clip in clips if clip not in by_name]
    if lacking:
        raise UserError(f"{store.path} lacks {len(lacking)} of the {len(clips)} clips of {path}, such as {lacking[0]}")
    if not sets or not all(sets.values()):
        raise UserError(f"{path} has no episodes, or a set without any")
    for name, episodes in sets.items():
        _check_set(episodes, labels, f"{path}, {name}")
    return Episodes([store.videos[by_name[clip]] for clip in clips], labels, sets)


def draw_episodes(store: Store, *, way: int, shot: int, queries: int, count: int, seed: int) -> Episodes:
    """Random episodes over a store's labelled videos, always the same for one seed.

    Known and asked videos of a class never share a group: clips of one source are told by their source.

    Raises UserError if there are too few classes, or a class has too few videos or groups.
    """
    at_least(2, way=way)
    at_least(1, shot=shot, queries=queries, count=count)
    videos = [video for video in store.videos if video.label is not None]
    labels = [video.label for video in videos]
    groups = np.array(group_numbers(videos))
    classes = {label: np.flatnonzero(np.array(labels) == label) for label in sorted(set(labels))}
    if len(classes) < way:
        raise UserError(f"{store.path} has {plural(len(classes), 'class')}, too few for --way {way}")
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        chosen = [list(classes)[at] for at in rng.choice(len(classes), way, replace=False)]
        parts = [_draw_class(classes[name], groups, shot, queries, rng, name) for name in chosen]
        episodes.append(Episode(*(tuple(int(at) for part in parts for at in part[side]) for side in (0, 1))))
    return Episodes(videos, labels, {f"{way}-way {shot}-shot": episodes})


def _draw_class(
    rows: np.ndarray, groups: np.ndarray, shot: int, queries: int, rng: np.random.Generator, name: str
) -> tuple[np.ndarray, np.ndarray]:
    for _ in range(TRIES):
        support = rng.choice(rows, min(shot, len(rows)), replace=False)
        rest = rows[~np.isin(groups[rows], groups[support])]
        if len(support) == shot and len(rest) >= queries:
            return support, rng.choice(rest, queries, replace=False)
    raise UserError(f"class {name} has too few videos or groups for --shot {shot} --queries {queries}")


def _check_set(episodes: Sequence[Episode], labels: Sequence[str], place: str) -> None:
    for number, episode in enumerate(episodes):
        for row in episode.support + episode.query:
            if not 0 <= row < len(labels):
                raise UserError(f"{place}, episode {number}: there is no clip {row}, the last one is {len(labels) - 1}")
        unknown = {labels[row] for row in episode.query} - {labels[row] for row in episode.support}
        if unknown:
            raise UserError(f"{place}, episode {number} asks about {min(unknown)}, of which it knows no video")
        if not episode.query or set(episode.support) & set(episode.query):
            raise UserError(f"{place}, episode {number} asks about nothing, or about a video that it knows")
