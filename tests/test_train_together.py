"""A class that two streams tell only together: heads that join features learn it, sums of answers cannot."""

from dataclasses import replace

import pytest

from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from streams.clip import ClipSettings
from tests.support.stores import make_store, with_or_against
from train import train

CLIP = ClipSettings(frames=2, stride=1, size=32)
MODEL = ModelSettings(width=4, feature=32, dropout=0.0)
# hidden streams, and losses of their own, of which there is nothing to learn, would only make it take longer
RECIPE = Recipe(epochs=40, batch=16, lr=2e-3, auxiliary=0.0, stream_dropout=0.0, clip=CLIP, model=MODEL)
LEARNED = 0.97


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    specs = [
        replace(spec, path=f"{split}/{spec.path}", split=split)
        for split, count in (("train", 192), ("val", 64))
        for spec in with_or_against(count, seed=len(split))
    ]
    return make_store(tmp_path_factory.mktemp("together") / "s.h5", specs)


def best_top1(store, folder, *, head: str, epochs: int) -> float:
    """The best validation top-1 of a training, which ends as soon as the task is learned."""
    found = []

    def learned(row: dict) -> bool:
        found.append(row["val_top1"])
        return found[-1] >= LEARNED

    recipe = replace(RECIPE, epochs=epochs, model=replace(MODEL, head=head))
    machine = Machine(workers=0, device="cpu", keep=1)
    train(TrainSettings("rgb,flow", store.path, folder / "run", recipe=recipe, machine=machine), learned)
    return max(found)


SLOWER = ("gated", "attention", "lowrank", "binding")
JOINING = ["concat", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)]


@pytest.mark.parametrize("head", JOINING)
def test_a_head_that_joins_features_learns_what_two_streams_tell_together(store, tmp_path, head):
    assert best_top1(store, tmp_path, head=head, epochs=40) >= LEARNED


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mean", "weighted", "stacked", "mixture"])
def test_a_head_that_adds_answers_up_cannot(store, tmp_path, head):
    assert best_top1(store, tmp_path, head=head, epochs=12) < 0.75
