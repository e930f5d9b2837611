"""Thresholds, alarms, and the bank of normal examples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from tasks.anomaly.alarms import Tail, alarms, peaks
from tasks.anomaly.bank import Choice
from tasks.anomaly.detector import Detector, Scored
from tasks.anomaly.evaluate import area
from tasks.anomaly.live import LiveAlarms

STEP = 0.16


def test_a_threshold_is_exceeded_as_often_as_was_asked():
    rng = np.random.default_rng(0)
    tail, unseen = Tail.of(rng.exponential(0.2, 36_000)), rng.exponential(0.2, 3600 * 1000)
    for rate in (1, 10, 100):
        assert (unseen > tail.threshold(rate)).sum() / 1000 == pytest.approx(rate, rel=0.35)
    assert not tail.is_guess(1) and tail.is_guess(0.05)


def test_distances_are_scikit_learns_to_the_examples_of_other_stretches():
    rng = np.random.default_rng(0)
    rows, stretch = rng.normal(size=(300, 5)) * [1, 2, 3, 4, 5], np.repeat([0, 1, 2], 100)
    choice = Choice(1000, seed=0)
    for number in range(3):
        choice.add(torch.from_numpy(rows[stretch == number]).float(), number)
    bank, asked = choice.bank(), rng.normal(size=(50, 5)) * 3
    spread = rows.std(axis=0, ddof=1)
    for but in (None, 1):
        neighbours = NearestNeighbors(n_neighbors=1).fit(rows[stretch != but] / spread)
        found = bank.distances(torch.from_numpy(asked).float(), but=but)
        np.testing.assert_allclose(found, neighbours.kneighbors(asked / spread)[0][:, 0], rtol=1e-3)


def test_a_bank_keeps_equally_many_of_equally_long_stretches_and_needs_two():
    choice = Choice(500, seed=0)
    choice.add(torch.zeros(5000, 2), 0)
    assert choice.bank() is None
    choice.add(torch.ones(5000, 2), 1)
    counts = choice.bank().stretch.bincount()
    assert counts.sum() == 500 and abs(counts[0] - 250) < 60


def test_alarms_that_are_close_are_one_and_name_the_stream_behind_the_greatest_score():
    times, scores = np.arange(0, 10, STEP), np.zeros(63)
    scores[10:13], scores[16:18], scores[40] = 2, 3, 4
    causes = np.where(np.arange(63) > 14, "audio", "flow")
    found = alarms(times, scores, causes, video="v", step=STEP, threshold=1)
    assert [(one.start, one.end, one.label) for one in found] == [
        (pytest.approx(10 * STEP), pytest.approx(18 * STEP), "audio"),
        (pytest.approx(40 * STEP), pytest.approx(41 * STEP), "audio"),
    ]
    assert found[0].score == pytest.approx(3 / 4)


@pytest.mark.parametrize("piece", [1, 7])
def test_alarms_of_moments_that_come_one_by_one_are_those_of_the_whole(piece):
    rng, names = np.random.default_rng(1), ("rgb", "flow")
    times, fall = np.arange(2000) * STEP, Tail(1000, 0.7, 0.1, 0.1)
    streams = {name: rng.normal(0.5, 0.2, 2000) for name in names}
    streams["flow"][500:700] = np.nan
    for begin in rng.integers(0, 1990, 25):
        streams[names[begin % 2]][begin : begin + 8] += 3
    detector = Detector({"fps": 25.0}, 4, names, {}, dict.fromkeys(names, fall), fall, torch.device("cpu"))
    whole, shape = detector.rate(Scored(times, streams, {})), {"video": "v", "threshold": 5.0}
    wanted = alarms(times, whole.score, whole.causes, step=STEP, **shape)
    live, found, was_on = LiveAlarms(detector, **shape), [], 0
    for first in range(0, 2000, piece):
        part = slice(first, first + piece)
        found += live.push(Scored(times[part], {name: of[part] for name, of in streams.items()}, {}))
        was_on += live.is_on
    found += live.end()
    assert len(wanted) > 5 and was_on
    assert [(one.label, one.start) for one in found] == [(one.label, one.start) for one in wanted]
    np.testing.assert_allclose([(one.end, one.score) for one in found], [(one.end, one.score) for one in wanted])


def test_peaks_are_the_greatest_scores_of_each_second():
    assert peaks(np.array([0.1, 0.9, 1.0, 3.5]), np.array([1.0, 2.0, 0.5, 4.0])).tolist() == [2.0, 0.5, 4.0]


def test_the_area_under_roc_is_scikit_learns_also_with_equal_scores():
    rng = np.random.default_rng(0)
    truth, scores = rng.random(500) < 0.3, rng.integers(0, 20, 500)
    assert area(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
