"""Exact search in 8 bits, held against brute force."""

import numpy as np
import pytest

from tasks.retrieval.ranking import nearest, rank, similarities
from tasks.retrieval.scan import Scan, encode
from tests.tasks.retrieval.random_index import SIZES, described, random_index, unit


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return random_index(tmp_path_factory.mktemp("index") / "index")


def test_bounds_hold_for_every_row():
    rng = np.random.default_rng(1)
    rows, query = unit(rng, 500, 64), unit(rng, 1, 64)[0]
    rows[7] = 0
    scan = Scan(500)
    scan.add(*encode(rows), np.ones(500, bool), query, 1.0)
    near, error = scan.bounds()
    assert (np.abs(near - rows @ query) <= error).all()
    assert error.max() < 0.05


@pytest.mark.parametrize("weights", [{"rgb": 1.0}, {"rgb": 1.0, "audio": 2.5}], ids=["rgb", "both"])
@pytest.mark.parametrize("count", [1, 10, 5000])
def test_the_nearest_windows_are_those_of_brute_force(index, weights, count):
    query = described(np.random.default_rng(2), 12)
    rows, scores = nearest(index, query, weights, count=count)
    every = similarities(index, query, weights, slice(None))
    best = -np.sort(-every, axis=1)[:, :count]
    np.testing.assert_allclose(scores, best, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), scores, atol=1e-5)


def test_similarity_is_the_weighted_mean_of_the_cosines_of_the_streams_that_both_have(index):
    query, weights = described(np.random.default_rng(3), 4), {"rgb": 1.0, "audio": 2.5}
    found = similarities(index, query, weights, slice(0, 30))
    for at, row in np.ndindex(found.shape):
        both = [name for name in SIZES if query.present[name][at] and index.there(name)[row]]
        cosines = {name: float(query.vectors[name][at] @ index.vectors(name)[row].astype(np.float32)) for name in both}
        total = sum(weights[name] for name in both)
        expected = sum(weights[name] * cosines[name] for name in both) / total if both else -1.0
        assert found[at, row] == pytest.approx(expected, abs=1e-4)


def test_proposed_videos_rank_as_all_videos_do(index, monkeypatch):
    query, weights = index.described(index.videos[33].rows), {"rgb": 1.0, "audio": 1.0}
    whole = rank(index, query, weights, top=5)
    assert whole.matches[0].video.path == "33" and whole.matches[0].score == pytest.approx(1.0, abs=1e-3)
    monkeypatch.setattr("tasks.retrieval.ranking.FEW", 0)
    proposed = rank(index, query, weights, top=5)
    assert proposed.matches == whole.matches and len(whole.order) == 60
    assert 33 not in rank(index, query, weights, top=1, without=index.videos[33].content).order
