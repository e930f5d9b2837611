"""What a search is refused for before it begins."""

import sys
from dataclasses import replace

import pytest
import tyro

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from tasks.settings import TuneSettings
from tasks.tune import tune
from tasks.tuning.settings import command_line, prepare, recipe_options, trial_settings
from tasks.tuning.space import KNOWN, ends, parse_space
from tasks.tuning.trials import open_study
from tests.support.cases import case
from tests.tasks.conftest import CPU, TINY
from train import train

pytest.importorskip("optuna")


@pytest.fixture
def settings(toy):
    return TuneSettings(data=toy.path, streams="rgb,audio", trials=3, recipe=TINY, machine=CPU)


def test_what_cannot_be_searched_is_refused_in_words(settings, tmp_path):
    for search, says in (
        ("colour", "known are lr, weight_decay"),
        ("dropout=0:1.5", "--dropout must be"),
        ("lr=1e-5:1e-4", "--lr 0.001"),
        ("batch=16,32", "--batch 8"),
    ):
        with case((search, says)):
            with pytest.raises(UserError, match=says):
                tune(replace(settings, out=tmp_path / "t", search=(search,)))
            assert not (tmp_path / "t").exists()


def test_without_optuna_one_line_says_what_to_install(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'tristream\[tune\]'"):
        tune(replace(settings, out=tmp_path / "t"))


def test_torchrun_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--parallel N"):
        tune(replace(settings, out=tmp_path / "t"))


def test_every_number_of_a_recipe_can_be_typed_as_the_command_of_a_run_says():
    """Those of clip and model, which lie within it, too."""

    def changed(part):
        numbers = {name: value for name, value in vars(part).items() if isinstance(value, (int, float))}
        others = {n: not v if isinstance(v, bool) else v * 2 + type(v)(1) for n, v in numbers.items()}
        return replace(part, **others)

    recipe = replace(changed(TINY), clip=changed(TINY.clip), model=changed(TINY.model))
    settings, usual = TrainSettings(recipe=recipe), recipe_options(TrainSettings().recipe)
    _, _, *words = command_line(settings)
    typed = {word for word in words if word.startswith("--")} - {"--streams", "--data"}
    numbers = {name for name, value in usual.items() if isinstance(value, (int, float))}
    assert typed == {f"--{'no-' * (usual[name] is True)}{name.replace('_', '-')}" for name in numbers}
    assert tyro.cli(TrainSettings, args=words, config=(tyro.conf.FlagCreatePairsOff,)) == settings


def test_what_may_be_searched_is_an_option_of_a_run(settings):
    assert KNOWN.keys() <= recipe_options(TINY).keys()
    for name, values in parse_space(tuple(KNOWN)).items():
        trial = trial_settings(settings, {name: ends(values)[-1]}, run=None)
        assert recipe_options(trial.recipe) == recipe_options(TINY) | {name: ends(values)[-1]}


def test_a_search_with_a_teacher_is_another_search_and_a_wrong_one_ends_it_at_once(settings, tmp_path):
    """Each trial has the teacher."""
    teacher = train(replace(trial_settings(settings, {}, run=tmp_path / "teacher"), streams="rgb"))
    taught = replace(settings, out=tmp_path / "out", recipe=replace(settings.recipe, teacher=teacher))
    space = prepare(taught)
    open_study(taught, space)
    assert trial_settings(taught, {"lr": 1e-4}, run=None).recipe.teacher == teacher
    with pytest.raises(UserError, match="--teacher"):
        open_study(replace(taught, recipe=settings.recipe), space)
    with pytest.raises(UserError, match=r"none\.safetensors"):
        prepare(replace(taught, recipe=replace(settings.recipe, teacher=tmp_path / "none.safetensors")))
