"""Whitened similarities against scikit-learn and SciPy, and videos that are like all others."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import cosine_similarity

from tasks.retrieval.describe import Described
from tasks.retrieval.index import About, Index, open_writer
from tasks.retrieval.ranking import CROWD, NEIGHBOURS, rank
from tasks.retrieval.whitening import Whitened
from tests.tasks.retrieval.random_index import random_index

SIZE, VIDEOS, RECORDINGS, WINDOWS = 32, 60, 12, 8


@pytest.fixture(scope="module")
def vectors():
    """(VIDEOS, WINDOWS, SIZE): video i is of recording i % RECORDINGS, which one half of the axes tells faintly; the
    other half changes much from window to window, and a little from video to video."""
    rng = np.random.default_rng(0)
    own = np.tile(rng.normal(size=(RECORDINGS, SIZE)) * (np.arange(SIZE) < SIZE // 2), (VIDEOS // RECORDINGS, 1))
    changing = (np.arange(SIZE) >= SIZE // 2) * rng.normal(size=(VIDEOS, WINDOWS, SIZE)) * 3
    values = 1 + own[:, None] + changing + 0.2 * rng.normal(size=(VIDEOS, WINDOWS, SIZE))
    return (values / np.linalg.norm(values, axis=2, keepdims=True)).astype(np.float16).astype(np.float32)


def made(folder, vectors, order) -> Index:
    with open_writer(folder, About("model", "digest", "release", 2.0, 1.0, SIZE, {"rgb": SIZE})) as writer:
        for number in order:
            shown = {"rgb": vectors[number]}, {"rgb": np.ones(WINDOWS, bool)}
            windows = Described(np.zeros((WINDOWS, 2), np.float32), *shown)
            facts = {"content": f"{number:032x}", "source": "s", "seconds": 9}
            writer.add(f"{number}", windows=windows, stills=[b""] * WINDOWS, **facts)
    return Index(folder)


def expected(vectors) -> np.ndarray:
    """(VIDEOS, VIDEOS) similarities: the mean over a video's windows of the other's likest, by other libraries."""
    flat, videos = vectors.reshape(-1, SIZE).astype(np.float64), np.repeat(np.arange(VIDEOS), WINDOWS)
    within = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(flat, videos).covariance_
    shrunk = within + np.trace(within) / SIZE * np.eye(SIZE)
    cosines = cosine_similarity((flat - flat.mean(axis=0)) @ fractional_matrix_power(shrunk, -0.5).real)
    return cosines.reshape(VIDEOS, WINDOWS, VIDEOS, WINDOWS).max(axis=3).mean(axis=1)


def test_videos_rank_by_whitened_cosines_and_those_that_are_like_all_others_lose(tmp_path, vectors):
    index = made(tmp_path / "index", vectors, range(VIDEOS))
    likeness, right, plain = expected(vectors), [], []
    whitened = {"rgb": Whitened(index, "rgb")}
    for number, video in enumerate(index.videos):
        query = index.described(video.rows)
        found = rank(index, query, {"rgb": 1.0}, top=VIDEOS, without=video.content, whitened=whitened)
        scores = {int(match.video.path): match.score for match in found.matches}
        others = np.delete(np.arange(VIDEOS), number)
        np.testing.assert_allclose([scores[other] for other in others], likeness[number, others], atol=2e-3)
        order = others[np.argsort(-likeness[number, others])]
        first = order[:CROWD]
        among = np.where(np.eye(CROWD, dtype=bool), -2, likeness[np.ix_(first, first)])
        crowded = -np.sort(-among, axis=1)[:, :NEIGHBOURS].mean(axis=1)
        by = dict(zip(first.tolist(), likeness[number, first] - crowded / 2, strict=True))
        order_by = [by[other] for other in found.order[:CROWD].tolist()]
        assert {*by} == {*found.order[:CROWD].tolist()} and (np.diff(order_by) < 2e-3).all()
        right.append(found.order[0] % RECORDINGS == number % RECORDINGS)
        bare = rank(index, query, {"rgb": 1.0}, top=1, without=video.content).order
        plain.append(bare[0] % RECORDINGS == number % RECORDINGS)
    assert np.mean(right) >= 0.95 and np.mean(right) > np.mean(plain) + 0.1


def test_the_order_in_which_videos_came_changes_nothing(tmp_path, vectors):
    order = np.random.default_rng(1).permutation(VIDEOS).tolist()
    one, other = made(tmp_path / "one", vectors, range(VIDEOS)), made(tmp_path / "other", vectors, order)
    query = one.described(one.videos[3].rows).vectors["rgb"]
    rows = np.concatenate([np.arange(WINDOWS) + WINDOWS * order.index(number) for number in range(VIDEOS)])
    found = Whitened(other, "rgb").cosines(query, rows)
    np.testing.assert_allclose(found, Whitened(one, "rgb").cosines(query, slice(None)), atol=1e-4)


def test_a_single_video_is_compared_as_it_is_and_removed_ones_teach_nothing(tmp_path):
    index = random_index(tmp_path / "index")
    with open_writer(index.folder, index.about) as writer:
        writer.remove([video for video in writer.videos if video.path != "39"])
    index = Index(index.folder)
    (video,) = index.held
    query = index.described(video.rows).vectors["rgb"]
    np.testing.assert_allclose(Whitened(index, "rgb").cosines(query, video.rows), query @ query.T, atol=1e-3)  # float16
