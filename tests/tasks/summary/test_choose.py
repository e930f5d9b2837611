"""The choice of pieces, against trying all of them, and the shots that they lie in."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from tasks.summary.choose import Candidate, candidates, choose
from tasks.summary.importance import importance
from tasks.summary.shots import shots
from tests.support.stores import FPS, Spec, make_store
from tests.tasks.summary.test_people import evidence


def value(pieces: list[Candidate], weights: np.ndarray) -> float:
    covered = np.zeros(len(weights))
    for one in pieces:
        covered[one.nearby] = np.maximum(covered[one.nearby], one.likeness)
    return float(weights @ covered / weights.sum())


def random_candidates(rng: np.random.Generator) -> list[Candidate]:
    found = []
    for number in range(9):
        length = rng.uniform(0.5, 2)
        likeness = rng.uniform(0, 1, 12).astype(np.float32) ** 3
        found.append(Candidate(3.0 * number, 3.0 * number + length, slice(0, 1), int(rng.integers(0, 9)), likeness))
    return found


def test_what_is_chosen_comes_near_the_best_there_is():
    rng, shares = np.random.default_rng(0), []
    for _ in range(20):
        given, weights = random_candidates(rng), rng.uniform(0, 1, 20)
        taken = choose(given, weights, budget=4.0)
        assert sum(one.candidate.seconds for one in taken) <= 4
        fits = [c for n in range(1, 8) for c in combinations(given, n) if sum(one.seconds for one in c) <= 4]
        best = max(value(list(some), weights) for some in fits)
        shares.append(value([one.candidate for one in taken], weights) / best)
        assert sum(one.gain for one in taken) == pytest.approx(value([one.candidate for one in taken], weights))
    assert min(shares) > 0.632 and np.mean(shares) > 0.95


def test_the_lazy_choice_is_the_greedy_one():
    rng = np.random.default_rng(3)
    given, weights = random_candidates(rng), rng.uniform(0, 1, 20)
    kept: list[Candidate] = []
    while fitting := [one for one in given if one not in kept and sum(k.seconds for k in kept) + one.seconds <= 6]:
        kept.append(max(fitting, key=lambda one: (value([*kept, one], weights) - value(kept, weights)) / one.seconds))
    assert [one.candidate.start for one in choose(given, weights, budget=6.0)] == [one.start for one in kept]


def test_pieces_lie_within_shots_never_overlap_and_stand_for_different_moments():
    one = evidence(seed=0, windows=80)
    cut = np.array([0.0, 9.9, 10.25, 20.25, 30.25, one.seconds])
    one = replace(one, shots=cut, features=np.repeat(np.eye(4)[[0, 1, 2, 0]], 20, axis=0))
    given = candidates(one, piece=1.5)
    assert all(any(a <= c.start and c.end <= b + 1e-6 for a, b in pairwise(cut)) for c in given)
    taken = choose(given, np.ones(80), budget=4.5)
    spans = sorted((piece.candidate.start, piece.candidate.end) for piece in taken)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    shown = {int(one.features[piece.candidate.windows].mean(axis=0).argmax()) for piece in taken}
    assert len(taken) == 3 and shown == {0, 1, 2}
    assert choose(given, np.zeros(80), budget=4.5) == []


def test_what_is_unusual_is_important_and_a_shot_is_judged_as_a_whole():
    features = np.ones((40, 3)) * [1, 0, 0] + np.random.default_rng(0).normal(size=(40, 3)) * 0.01
    features[20:26] += [0, 3, 0]
    one = evidence(seed=0, windows=40)
    cut = np.array([0.0, 10.25, 13.25, one.seconds])
    one = replace(one, features=features, shots=cut)
    found = importance(one).values
    assert found[20:26].min() > np.delete(found, range(20, 26)).max()


def test_cuts_and_dissolves_are_found_to_the_frame_and_motion_is_none(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [
        rng.integers(0, 255, (9, 12, 3)).repeat(4, axis=0).repeat(4, axis=1) * [1, share, 0.3] for share in (0.2, 1)
    ]
    first = [np.roll(scenes[0], k, axis=1) for k in range(60)]
    second = [np.roll(scenes[1], k, axis=1) for k in range(70)]
    mixed = [(1 - k / 8) * first[-1] + k / 8 * second[0] for k in range(1, 8)]
    third = [np.roll(scenes[0][::-1], k, axis=1) for k in range(40)]
    rgb = np.stack([*first, *mixed, *second, *third]).clip(0, 255).astype(np.uint8)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=len(rgb), rgb=rgb)])
    (video,) = store.videos
    found = shots(store, video)
    assert found[0] == 0 and found[-1] == video.seconds and len(found) == 4
    assert abs(found[1] * FPS - 63.5) <= 4 and abs(found[2] * FPS - 137) <= 1


def test_in_one_long_take_the_loud_minute_is_what_matters():
    one = evidence(seed=0, windows=600)
    loud = np.where((np.arange(600) > 300) & (np.arange(600) < 360), 1.0, -3.0)
    found = importance(replace(one, features=np.ones((600, 2)), loudness=loud)).values
    assert found[310:350].min() > 1.3 * np.delete(found, range(280, 380)).max()
