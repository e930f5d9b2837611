"""What an ablation finds."""

from itertools import combinations

import numpy as np
import pytest

from tasks.ablation.findings import METHODS, best_single, differences, top1s, values_of_streams, when_missing
from tasks.bootstrap import paired_bootstrap

NAMES = ("a", "b", "c", "a+b", "a+c", "b+c", "a+b+c")


def some_rights(names=NAMES, *, seeds: int = 2, videos: int = 30) -> dict:
    rng = np.random.default_rng(0)
    rights = {method: {} for method in METHODS}
    rights["trained"] = {name: rng.random((seeds, videos)) < 0.5 for name in names}
    rights["mean"] = {name: rng.random((seeds, videos)) < 0.5 for name in names if "+" in name}
    return rights


def test_top1_is_the_share_of_right_answers_of_each_seed():
    assert top1s({"mean": {"a+b": np.array([[1, 0, 0, 1], [1, 1, 1, 0]], bool)}}) == {"mean": {"a+b": [0.5, 0.75]}}


def test_the_best_single_stream_is_the_best_on_average_of_those_asked_for():
    tops = {"a": [0.9, 0.1], "b": [0.6, 0.5], "c": [0.7, 0.7]}
    assert best_single(tops, ("a", "b", "c")) == "c"
    assert best_single(tops, ("a", "b")) == "b"
    assert best_single(tops, ("d",)) is None


def test_values_are_each_seeds_own_and_only_of_methods_that_have_every_subset():
    rights = some_rights()
    tops = top1s(rights)
    found = values_of_streams(tops, ("a", "b", "c"), 0.2)
    assert list(found) == ["trained"]
    for seed in range(2):
        total = sum(found["trained"][stream][seed] for stream in "abc")
        assert total == pytest.approx(tops["trained"]["a+b+c"][seed] - 0.2)


def test_the_largest_subset_is_compared_with_every_control_on_the_same_videos():
    rights, units = some_rights(videos=60), np.arange(60) // 6
    rights["trained"]["a+b+c"] = rights["trained"]["a+b+c"][:, units]  # right and wrong together
    rows = differences(rights, {"a": [0.1], "b": [0.5], "c": [0.2]}, ("a", "b", "c"), units)
    assert {row.fused for row in rows} == {"a+b+c"}
    controls = ["best single stream (b)", METHODS["mean"], *(f"model trained on {name}" for name in NAMES[3:6])]
    assert [row.control for row in rows] == controls
    points = rights["trained"]["a+b+c"].mean(axis=0) - rights["trained"]["b"].mean(axis=0)
    expected = paired_bootstrap(points, units)
    assert (rows[0].mean, rows[0].low, rows[0].high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_where_not_all_was_trained_the_largest_of_what_there_is_are_compared():
    rights = some_rights(("a", "a+b", "a+c"))
    rows = differences(rights, {"a": [0.1]}, ("a", "b", "c"), range(30))
    assert [(row.fused, row.control) for row in rows] == [
        (fused, control) for fused in ("a+b", "a+c") for control in ("best single stream (a)", METHODS["mean"])
    ]


def test_a_stream_missing_from_half_of_the_videos_costs_what_it_costs_over_all_choices_of_that_half():
    rights = some_rights(videos=8)
    rights["joint"] = {name: np.random.default_rng(k).random((2, 8)) < 0.5 for k, name in enumerate(NAMES)}
    joint, tops = rights["joint"], top1s(rights)
    rows = when_missing(tops, ("a", "b", "c"))
    assert [row.missing for row in rows] == ["a", "b", "c"]
    for row, others in zip(rows, ("b+c", "a+c", "a+b"), strict=True):
        drawn = [joint["a+b+c"].copy() for _ in combinations(range(8), 4)]
        for right, half in zip(drawn, combinations(range(8), 4), strict=True):
            right[:, half] = joint[others][:, half]
        assert row.half == pytest.approx(np.mean(drawn, axis=(0, 2)))
        assert (row.none, row.all) == (tops["joint"]["a+b+c"], tops["joint"][others])
        assert row.trained == tops["trained"][others]


def test_what_missing_streams_cost_is_not_said_of_one_stream_or_where_no_model_of_all_was_trained():
    assert when_missing(top1s(some_rights()), ("a", "b", "c")) == []
    assert when_missing({"trained": {"a": [0.5]}, "joint": {"a": [0.5]}}, ("a",)) == []
    (first, second) = when_missing({"trained": {"b": [0.4]}, "joint": {"a": [0.3], "b": [0.5], "a+b": [0.7]}}, "ab")
    assert (first.trained, second.trained) == ([0.4], None)
