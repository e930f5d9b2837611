"""The bar of an epoch."""

import io
import sys
from itertools import pairwise

import pytest
import torch
from tqdm import tqdm

from fusion.training import bar as bars
from fusion.training.bar import EpochBar, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bars, "time", clock)
    return clock


def test_the_time_left_of_a_run_is_by_the_steps_of_this_process_alone(clock):
    pace = Pace(steps=100, done=40)
    clock.now += 20.0
    assert pace.left(50) == pytest.approx(100.0)
    assert Pace(steps=100, done=40).left(40) == 0.0  # nothing is known yet


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_sums_are_looked_at_once_a_second_at_most_and_never_by_a_hidden_bar(clock, monkeypatch):
    looks, said = [], []

    class Sums:
        def tolist(self) -> list[float]:
            looks.append(clock.now)
            return torch.tensor([3.0, 1.0, 4.0]).tolist()

    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setattr(tqdm, "set_postfix_str", lambda bar, text, refresh: said.append(text))
    for hidden in (False, True):
        bar = EpochBar(Pace(steps=100, done=0), name="epoch", steps=50, done=0, before=0, hidden=hidden)
        for _ in range(50):
            clock.now += 0.125
            bar.update(Sums())
        bar.close()
    assert len(looks) == 7 and min(later - before for before, later in pairwise(looks)) >= 1.0
    assert all("loss 0.750" in text and "top-1 25.0%" in text for text in said) and len(said) == 7
