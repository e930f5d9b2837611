"""train.py where a run is there already."""

import fcntl
from dataclasses import replace

import pytest

from fusion.training.settings import Machine, TrainSettings, differences
from preprocess.common.errors import UserError
from tests.support.stores import make_store, three_bit
from tests.test_train import TINY
from train import train


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> TrainSettings:
    folder = tmp_path_factory.mktemp("again")
    store = make_store(folder / "toy.h5", three_bit(16))
    done = TrainSettings(
        data=store.path, run=folder / "run", recipe=replace(TINY, epochs=1), machine=Machine(workers=0, device="cpu")
    )
    train(done)
    return done


def test_a_run_goes_on_with_its_own_settings_and_refuses_others(settings):
    given = replace(settings, resume=True, recipe=replace(settings.recipe, epochs=9))
    with pytest.raises(UserError, match="--epochs 9"):
        train(given)


def test_options_that_repeat_what_the_run_has_are_welcome(settings):
    assert train(replace(settings, resume=True)) == settings.run


def test_two_processes_do_not_train_one_run(settings):
    with open(settings.run / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="run"):
            train(replace(settings, resume=True))


def test_a_second_run_of_the_same_streams_says_that_it_has_another_name(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fresh = replace(settings, run=None)
    first, second = train(fresh), train(fresh)
    assert first != second
    assert f"this one is {second}" in capsys.readouterr().out


def test_differences_are_found_in_nested_settings_and_not_in_the_machines():
    plain = TrainSettings()
    other = replace(plain, seed=3, recipe=replace(plain.recipe, lr=0.1), machine=Machine(workers=5))
    assert differences(other, plain) == {"seed": 3, "lr": 0.1}
