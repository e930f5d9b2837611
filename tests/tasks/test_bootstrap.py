"""Bootstrap intervals of differences."""

import numpy as np
import pytest
from scipy import stats

from tasks.bootstrap import paired_bootstrap


def some_differences(count: int, seed: int = 0) -> np.ndarray:
    """Right less wrong of two models: -1, 0 or 1."""
    return np.random.default_rng(seed).choice([-1, 0, 1], count, p=[0.1, 0.6, 0.3]).astype(float)


def test_by_video_it_is_scipys_percentile_interval():
    differences = some_differences(120)
    ours = paired_bootstrap(differences, range(120), seed=1)
    theirs = stats.bootstrap((differences,), np.mean, n_resamples=10_000, method="percentile", rng=3)
    assert ours.mean == pytest.approx(differences.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.01)


def test_by_group_it_is_scipys_percentile_interval_of_paired_sums_and_sizes():
    rng = np.random.default_rng(4)
    units = np.repeat(np.arange(40), rng.integers(1, 8, 40))
    differences = np.clip(rng.normal(0.1, 0.4, 40)[units] + rng.normal(0, 0.1, len(units)), -1, 1)
    sums = np.array([differences[units == unit].sum() for unit in range(40)])
    sizes = np.array([(units == unit).sum() for unit in range(40)])
    ours = paired_bootstrap(differences, units, level=0.9)
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        confidence_level=0.9,
        method="percentile",
        rng=5,
    )
    assert (ours.low, ours.high) == pytest.approx(theirs.confidence_interval, abs=0.01)


def test_videos_that_are_right_and_wrong_together_make_the_interval_wider():
    differences = np.repeat(some_differences(30), 10)
    alone = paired_bootstrap(differences, range(300))
    together = paired_bootstrap(differences, np.repeat(range(30), 10))
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(10**0.5, rel=0.1)


def test_many_videos_give_the_normal_interval():
    differences = some_differences(5000)
    error = 1.96 * differences.std() / 5000**0.5
    found = paired_bootstrap(differences, range(5000))
    expected = (differences.mean() - error, differences.mean() + error)
    assert (found.low, found.high) == pytest.approx(expected, abs=error / 20)


def test_the_same_seed_gives_the_same_interval_and_names_of_units_do_not_matter():
    differences = np.random.default_rng(0).normal(size=50)
    units = np.arange(50) // 2
    first = paired_bootstrap(differences, units, seed=7)
    assert first == paired_bootstrap(differences, units * 3 + 100, seed=7)
    assert first != paired_bootstrap(differences, units, seed=8)


def test_models_that_agree_differ_by_nothing_and_one_group_says_nothing():
    same = paired_bootstrap(np.zeros(20), range(20))
    assert (same.mean, same.low, same.high, same.above_zero) == (0, 0, 0, False)
    one = paired_bootstrap(np.ones(20), [0] * 20)
    assert (one.mean, one.low, one.high, one.above_zero) == (1, None, None, False)
    assert paired_bootstrap(np.ones(20), range(20)).above_zero
