"""Shapley values: the worth of each stream."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import TypeVar

import torch
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


def shares(answers: Mapping[frozenset[str], Tensor], classes: Tensor, streams: Sequence[str]) -> dict[str, Tensor]:
    """Each stream's share, (N,), of the probability of one class a window: its Shapley value, exactly.

    answers: every non-empty subset of the streams → (N, K); classes: (N,). With no stream each class has 1/K, so the
    shares of a window add up to the probability less 1/K; that of an absent stream is zero.
    """
    count = next(iter(answers.values())).shape[1]
    there = {names: answer.sum(dim=1) > 0 for names, answer in answers.items()}
    worth = {
        names: answer.gather(1, classes[:, None])[:, 0].where(there[names], torch.tensor(1 / count, dtype=answer.dtype))
        for names, answer in answers.items()
    }
    worth[frozenset()] = torch.full_like(classes, 1 / count, dtype=torch.float64)
    return shapley(worth, streams)
