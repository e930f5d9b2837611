"""What a model could know of a video without seeing or hearing it, and how far that gets it.

A small well-known classifier, multinomial logistic regression, is given facts alone: which streams there are, how long
the video is, the size, rate and container of its file. Where it does better than the label prior, so may a deep model,
for the wrong reasons.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store import Store, safe_hdf5
from preprocess.store.index import Video

Facts = dict[str, float | str]  # a number, or a text that names a kind
BINS = 10  # that a number is also told by: a class may have neither the least nor the most of it
LARGEST = 3.0  # standard deviations
MOST = 10_000  # videos that are learned from
SOURCE = ("fps", "width", "height", "rotation", "container", "video_codec", "audio_codec")

FACTS = {
    "presence": ("has_",),
    "length": ("seconds", "frames", "sound_", "truncated", "damaged"),
    "size, rate, container": ("height", "width", "aspect", "source_"),
}
"""kinds of facts → how their names begin"""


def read_facts(store: Store, videos: Sequence[Video]) -> list[Facts]:
    """What the index says of each video, and what its file was. Nothing that depends on what a stream shows.

    The bytes that a stream takes are no such fact: they tell how much there is to see.
    """
    return [_index_facts(video) | _source_facts(store, video) for video in videos]


def prior(labels: Sequence[str]) -> str:
    """The most frequent label; of several the first by name."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def answer_from_facts(train: Sequence[Facts], labels: Sequence[str], asked: Sequence[Facts]) -> list[str]:
    """What the classifier says of the videos `asked`, after it has learned from those that train.

    Each number is standardised by the training videos' mean and deviation and cut at three deviations, and is also told
    by which tenth of the training videos it is in; each kind is told by a flag.
    """
    from sklearn.linear_model import LogisticRegression

    if len(train) > MOST:
        chosen = np.random.default_rng(0).choice(len(train), MOST, replace=False)
        train, labels = [train[row] for row in chosen], [labels[row] for row in chosen]
    columns, asked_columns = encode_facts(train, asked)
    if len({*labels}) < 2 or not columns.shape[1] or not asked:  # nothing that a regression takes
        return [prior(labels)] * len(asked)
    return LogisticRegression(max_iter=1000).fit(columns, labels).predict(asked_columns).tolist()


def encode_facts(train: Sequence[Facts], asked: Sequence[Facts]) -> tuple[np.ndarray, np.ndarray]:
    """Facts as columns: → (N, D), (M, D)"""
    columns: list[np.ndarray] = []
    for name in sorted({name for facts in train for name in facts}):
        told = [facts.get(name, "missing") for facts in (*train, *asked)]
        known = np.array([value for value in told[: len(train)] if not isinstance(value, str)], "f8")
        numbers = np.array([np.nan if isinstance(value, str) else value for value in told], "f8")
        if len(known):
            scaled = (numbers - known.mean()) / (known.std() or 1.0)
            columns.append(np.nan_to_num(np.clip(scaled, -LARGEST, LARGEST)))
            edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
            tenth = np.searchsorted(edges, numbers, side="right")
            told = [value if isinstance(value, str) else str(tenth[row]) for row, value in enumerate(told)]
        for kind in sorted(set(told[: len(train)])):
            columns.append(np.array([value == kind for value in told], "f8"))
    if not columns:
        return np.zeros((len(train), 0)), np.zeros((len(asked), 0))
    both = np.stack(columns, axis=1)
    return both[: len(train)], both[len(train) :]


def _index_facts(video: Video) -> Facts:
    facts: Facts = {f"has_{stream}": str(there) for stream, there in video.streams.items()}
    facts |= {"seconds": video.seconds, "frames": video.frames, "height": video.height, "width": video.width}
    facts |= {"aspect": video.width / video.height, "truncated": str(video.truncated), "damaged": video.damaged}
    if video.sound:
        facts |= {"sound_from": video.sound[0], "sound_missing": video.seconds - video.sound[1]}
    return facts


def _source_facts(store: Store, video: Video) -> Facts:
    """Raises UserError where the store holds no text or number where it should."""
    group, facts = store.group(video), {}
    for name in SOURCE:
        if f"source_{name}" not in group.attrs:
            continue
        try:
            value = safe_hdf5.attribute(group, f"source_{name}")
        except safe_hdf5.UnsafeFile as error:
            raise UserError(f"{store.path}: {video.path}: {error}") from error
        if isinstance(value, str) or (isinstance(value, int | float) and np.isfinite(value)):
            facts[f"source_{name}"] = value
    return facts
