"""Shapley values: the worth of each stream."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import TypeVar

from torch import Tensor

Worth = TypeVar("Worth", float, Tensor)


def shapley(worth: Mapping[frozenset[str], Worth], players: Sequence[str]) -> dict[str, Worth]:
    """Each player's mean gain over all orders of the players (Shapley 1953), exactly; of tensors, entry by entry.

    `worth` has every subset of the players, with the empty one; the values add up to the worth of all minus that of
    none.
    """
    count = len(players)
    values = {}
    for player in players:
        others = [other for other in players if other != player]
        values[player] = 0.0
        for size in range(count):
            orders = factorial(size) * factorial(count - 1 - size) / factorial(count)  # share in which these come first
            for chosen in map(frozenset, combinations(others, size)):
                values[player] = values[player] + orders * (worth[chosen | {player}] - worth[chosen])
    return values
