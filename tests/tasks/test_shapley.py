"""Shapley values."""

from itertools import combinations, permutations
from statistics import mean

import numpy as np
import pytest

from tasks.shapley import shapley


def any_worth(players: str, seed: int = 0) -> dict[frozenset[str], float]:
    rng = np.random.default_rng(seed)
    sets = [frozenset(chosen) for size in range(len(players) + 1) for chosen in combinations(players, size)]
    return {chosen: rng.random() for chosen in sets}


def mean_gain(worth, players: str, player: str) -> float:
    """The same by its definition: go through every order."""
    orders = [order[: order.index(player)] for order in permutations(players)]
    return mean(worth[frozenset(before) | {player}] - worth[frozenset(before)] for before in orders)


@pytest.mark.parametrize("players", ["a", "abc", "abcde"])
def test_a_value_is_the_mean_gain_over_all_orders(players):
    worth = any_worth(players)
    expected = {player: mean_gain(worth, players, player) for player in players}
    assert shapley(worth, players) == pytest.approx(expected)


def test_a_stream_that_changes_nothing_is_worth_nothing_and_equal_streams_are_worth_the_same():
    worth = {chosen: float(len(chosen & {*"ab"})) ** 2 for chosen in any_worth("abc")}
    assert shapley(worth, "abc") == pytest.approx({"a": 2.0, "b": 2.0, "c": 0.0})


def test_three_bits_are_shared_evenly():
    """12.5 % by the label prior, then 25, 50 and 100 %."""
    worth = {chosen: 0.125 * 2 ** len(chosen) for chosen in any_worth("abc")}
    assert shapley(worth, "abc") == pytest.approx(dict.fromkeys("abc", 0.875 / 3))
