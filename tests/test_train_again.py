"""train.py where a run is there already."""

import fcntl
from dataclasses import replace

import pytest

import train as training
from fusion.training.run import read_settings
from fusion.training.settings import Machine, TrainSettings, differences
from fusion.training.step import Step
from preprocess.common.errors import UserError
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import make_store, three_bit
from tests.test_train import TINY, rows_of
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


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that gives a command line, and what it would have trained, or its error."""

    def give(*arguments: object):
        given = []
        monkeypatch.setattr(training, "train", lambda settings, *, epochs: given.append((settings, epochs)))
        result = run_here(monkeypatch, capsys, *arguments, main=training.main)
        return given[0] if given else result

    return give


def test_an_option_that_is_given_counts_also_where_it_is_the_usual_value(settings, command):
    """The run has others than the usual epochs and batch."""
    again = "--run", settings.run, "--resume"
    for given, epochs in (((), 1), (("--epochs", 30), 30), (("--batch", 8, "--epochs", 2, "--workers", 3), 2)):
        resumed, wanted = command(*again, *given)
        assert wanted == epochs and resumed.recipe == settings.recipe
        assert resumed.machine.workers == (3 if "--workers" in given else None)
    for given in (("--batch", 32), ("--lr", 0.5), ("--streams", "rgb"), ("--init", "rgb=x")):
        assert_one_line_error(command(*again, *given), "--resume", given[0])


@pytest.mark.slow
def test_a_run_is_trained_longer_along_the_curve_of_all_its_epochs(settings, tmp_path, capsys):
    short = replace(settings, run=tmp_path / "short", recipe=replace(settings.recipe, epochs=4))
    whole = train(replace(short, run=tmp_path / "whole", recipe=replace(settings.recipe, epochs=8)))
    train(short)
    on = TrainSettings(run=short.run, resume=True, machine=settings.machine)
    with pytest.raises(UserError, match="4 epochs"):
        train(on, epochs=1)
    capsys.readouterr()
    train(on, epochs=8)
    rate = next(line for line in capsys.readouterr().out.splitlines() if "8 epochs" in line and "4" in line)
    assert "learning rate" in rate
    one, other = (rows_of(folder) for folder in (short.run, whole))
    assert [row["epoch"] for row in one] == [*range(1, 9)]
    assert [row["lr"] for row in one[4:]] == [row["lr"] for row in other[4:]]
    assert one[3]["lr"] < one[4]["lr"]
    assert read_settings(short.run)[0].recipe.epochs == 8
    train(on)
    assert "complete" in capsys.readouterr().out and len(rows_of(short.run)) == 8


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_fails_before_it_has_saved_anything_leaves_nothing(settings, tmp_path, monkeypatch, there):
    folder = tmp_path / "deep" / "runs" / "one"
    if there:
        folder.mkdir(parents=True)
        (folder / "remark.txt").touch()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Step, "__call__", fail)
    with pytest.raises(RuntimeError):
        train(replace(settings, run=folder))
    assert list(folder.iterdir()) == [folder / "remark.txt"] if there else not (tmp_path / "deep").exists()


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
