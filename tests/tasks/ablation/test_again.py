"""python -m tasks.ablate: what it trains, what it finds trained, and what its runs start from."""

import json
import shutil
from dataclasses import replace
from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from fusion.training.checkpoint import Checkpoints
from preprocess.common.errors import UserError
from streams.registry import subsets
from tasks import ablate as ablation
from tasks.ablate import FILES, ablate
from tests.tasks.ablation.conftest import ONCE, PAIR, runs, weights
from tests.tasks.conftest import CPU


def test_the_same_command_again_trains_nothing_and_finds_the_same(result, settings):
    before = weights(settings.out)
    assert len(before) == 2 * 3 * 2
    assert ablate(settings) == result
    assert weights(settings.out) == before


def test_another_recipe_is_trained_beside_and_the_old_runs_are_found_again(result, settings, tmp_path):
    out = tmp_path / "shared"
    shutil.copytree(settings.out, out)
    settings, before = replace(settings, out=out, seeds=1, subsets=("audio",)), weights(out)
    ablate(replace(settings, recipe=replace(ONCE, lr=0.01)))
    assert len(runs(out, ("audio",))) == 2 and len(runs(out)) == 1
    after = weights(out)
    assert before.items() <= after.items() and len(after) == len(before) + 2
    ablate(settings)
    assert weights(out) == after


def test_moved_data_are_the_same_data_and_ablations_share_runs(result, settings, tmp_path):
    out, moved = tmp_path / "shared", tmp_path / "moved.h5"
    shutil.copytree(settings.out, out)
    shutil.copy(settings.data, moved)
    before = weights(out)
    other = replace(settings, data=moved, out=tmp_path / "other", runs=out, subsets=("rgb",))
    again = ablate(replace(other, machine=replace(CPU, keep=1)))
    assert again.top1["trained"] == {"rgb": result.top1["trained"]["rgb"]}
    assert weights(out) == before
    assert {path.name for path in other.out.iterdir()} == {*FILES}


@pytest.mark.slow
def test_an_ablation_starts_from_weights_and_knows_them_by_what_they_hold(result, settings, tmp_path):
    """With another recipe, so that nothing is there already; and what it starts from lies elsewhere when it goes on."""
    start, out, moved = runs(settings.out)[0], tmp_path / "out", tmp_path / "moved"
    settings = replace(settings, seeds=1, out=out, recipe=replace(ONCE, lr=1e-30, weight_decay=0.0))
    found = ablate(replace(settings, init=(str(start),)))
    for subset in subsets(PAIR):
        (folder,) = runs(out, subset)
        told = json.loads((folder / "settings.json").read_text())["init"]
        assert [one["stream"] for one in told] == list(subset) and not any(one["left_out"] for one in told)
        learned, before = (load_file(path / "best.safetensors") for path in (folder, start))
        name = f"encoders.{subset[0]}.lstm.weight_hh_l0"
        torch.testing.assert_close(learned[name], before[name], rtol=0, atol=0)
    before = weights(out)
    shutil.copytree(start, moved)
    assert ablate(replace(settings, init=tuple(f"{name}={moved}" for name in PAIR))) == found
    assert weights(out) == before


@pytest.mark.slow
def test_every_run_of_an_ablation_has_the_teacher_and_is_known_by_its_weights(result, settings, tmp_path):
    """It lies elsewhere when the ablation goes on; another one's runs are others."""
    first, second = (runs(settings.out, PAIR, seed)[0] for seed in range(2))
    teacher, out = tmp_path / "teacher-0.safetensors", tmp_path / "out"
    teacher.write_bytes((first / "last.safetensors").read_bytes())
    recipe = replace(ONCE, teacher=tmp_path / "teacher-{seed}.safetensors")
    settings = replace(settings, seeds=1, out=out, subsets=("rgb",), recipe=recipe)
    found = ablate(settings)
    (folder,) = runs(out, ("rgb",))
    told = json.loads((folder / "settings.json").read_text())["teacher"]
    assert told["streams"] == list(PAIR) and told["path"] == str(teacher)
    before, moved = weights(out), teacher.rename(tmp_path / "moved-0.safetensors")
    recipe = replace(ONCE, teacher=tmp_path / "moved-{seed}.safetensors")
    assert ablate(replace(settings, recipe=recipe)) == found
    assert weights(out) == before
    moved.write_bytes((second / "last.safetensors").read_bytes())
    ablate(replace(settings, recipe=recipe))
    assert len(runs(out, ("rgb",))) == 2
    moved.unlink()
    with pytest.raises(UserError, match=r"moved-0\.safetensors"):
        ablate(replace(settings, recipe=recipe))


def test_each_seed_may_start_from_its_own_weights(result, settings, tmp_path, monkeypatch):
    given = {}

    def known(folder, store, split, *, streams, seed, init, recipe, machine):
        given[streams, seed] = init
        return runs(settings.out, streams, seed)[0]

    for seed in range(2):
        (tmp_path / f"start-{seed}.safetensors").write_bytes(
            (runs(settings.out, PAIR, seed)[0] / "last.safetensors").read_bytes()
        )
    monkeypatch.setattr(ablation, "trained_run", known)
    init = tuple(f"{name}={tmp_path}/start-{{seed}}.safetensors" for name in PAIR)
    assert ablate(replace(settings, out=tmp_path, init=init)) == result
    for (_, seed), texts in given.items():
        assert texts == tuple(f"{name}={tmp_path}/start-{seed}.safetensors" for name in PAIR)
    (tmp_path / "start-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"start-1\.safetensors"):
        ablate(replace(settings, out=tmp_path, init=init))


def test_an_interrupted_ablation_goes_on_and_finds_the_same(result, settings, tmp_path, monkeypatch):
    """Stopped within the second run's first epoch, which leaves nothing to go on from."""
    import train as training

    settings = replace(settings, out=tmp_path / "again")
    real, calls = training.validate, count(1)

    def interrupted(*positional, **named):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*positional, **named)

    monkeypatch.setattr(training, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(settings)
    first = weights(settings.out)
    assert first
    again = ablate(settings)
    assert again == result
    assert first.items() <= weights(settings.out).items()


@pytest.mark.slow
def test_an_ablation_that_was_stopped_after_a_checkpoint_goes_on_from_it(result, settings, tmp_path, monkeypatch):
    settings = replace(settings, out=tmp_path / "again", machine=replace(CPU, save_minutes=0.0))
    real, calls = Checkpoints.save, count(1)

    def interrupted(self, *positional):
        real(self, *positional)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(settings)
    (stopped,) = settings.out.glob("*/checkpoints")
    assert len(list(stopped.iterdir())) == 2 and not (stopped.parent / "last.safetensors").exists()
    assert ablate(settings) == result
