"""Shortcuts: the top-1 from facts about a video's file, without seeing or hearing it.

A small well-known classifier, multinomial logistic regression, gets facts only: the streams that a video has, its
length, and the size, rate and container of its file. If it does better than the label prior, a deep model may do so
too, for the wrong reasons.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store import Store, safe_hdf5
from preprocess.store.index import Video

Facts = dict[str, float | str]  # a number, or a text for a category
BINS = 10  # bins of each number, as flags: a class may have medium values
LARGEST = 3.0  # limit of numbers, in standard deviations
MOST = 10_000  # training videos at most
SOURCE = ("fps", "width", "height", "rotation", "container", "video_codec", "audio_codec")

FACTS = {
    "presence": ("has_",),
    "length": ("seconds", "frames", "sound_", "truncated", "damaged"),
    "size, rate, container": ("height", "width", "aspect", "source_"),
}
"""kind of fact → prefixes of its facts' names"""


def read_facts(store: Store, videos: Sequence[Video]) -> list[Facts]:
    """Facts about each video from the index, and about its file. None depends on a stream's content.

    A stream's size in bytes is not among them: it depends on the content.
    """
    return [_index_facts(video) | _source_facts(store, video) for video in videos]


def prior(labels: Sequence[str]) -> str:
    """The most frequent label; of several, the first by name."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def answer_from_facts(train: Sequence[Facts], labels: Sequence[str], tested: Sequence[Facts]) -> list[str]:
    """The classifier's answers for the videos `tested`, after training on the videos `train`.

    Each number is standardised by the training videos' mean and deviation and cut at three deviations, and also encoded
    as the tenth of the training videos that it is in; each category is a flag.
    """
    from sklearn.linear_model import LogisticRegression

    if len(train) > MOST:
        chosen = np.random.default_rng(0).choice(len(train), MOST, replace=False)
        train, labels = [train[row] for row in chosen], [labels[row] for row in chosen]
    columns, tested_columns = encode_facts(train, tested)
    if len({*labels}) < 2 or not columns.shape[1] or not tested:  # nothing to fit a regression to
        return [prior(labels)] * len(tested)
    return LogisticRegression(max_iter=1000).fit(columns, labels).predict(tested_columns).tolist()


def encode_facts(train: Sequence[Facts], tested: Sequence[Facts]) -> tuple[np.ndarray, np.ndarray]:
    """Facts as columns: → (N, D), (M, D)"""
    columns: list[np.ndarray] = []
    for name in sorted({name for facts in train for name in facts}):
        told = [facts.get(name, "missing") for facts in (*train, *tested)]
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
        return np.zeros((len(train), 0)), np.zeros((len(tested), 0))
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
    """Facts about a video's file. Raises UserError if an attribute in the store is not a text or number."""
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
