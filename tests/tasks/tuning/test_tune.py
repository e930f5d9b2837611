"""python -m tasks.tune"""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import tyro

from fusion.training.run import read_settings, read_split
from preprocess.common.errors import UserError
from preprocess.common.files import only_one
from tasks.run import load_run
from tasks.settings import TuneSettings
from tasks.tune import main, tune
from tasks.tuning import trials
from tasks.tuning.settings import folder_of, prepare, recipe_options
from tasks.tuning.trials import claim, open_study
from tests.support.commands import assert_one_line_error, command, environment, run
from tests.support.runs import run_here
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY
from train import TrainSettings, train

pytest.importorskip("optuna")

FILES = ("trials.csv", "best.json", "history.png", "parameters.png")
SMALL = ("--frames", 2, "--size", 32, "--audio-seconds", 0.32, "--width", 2, "--feature", 8, "--batch", 8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    test = three_bit(8, prefix="test", split="test", frames=10)
    return make_store(tmp_path_factory.mktemp("store") / "s.h5", [*three_bit(24, split="train", frames=10), *test])


@pytest.fixture(scope="module")
def settings(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "tuning"
    return TuneSettings(data=store.path, streams="rgb,audio", trials=3, out=out, recipe=TINY, machine=CPU)


@pytest.fixture(scope="module")
def result(settings):
    return tune(settings)


@pytest.fixture
def fake(settings, tmp_path, monkeypatch):
    """A search whose runs take no time: the smaller the dropout, the better. What they did is in `starts`."""
    starts = []

    def pretend(given: TrainSettings, on_epoch) -> None:
        starts.append(given.run.name)
        (given.run / "checkpoints").mkdir(exist_ok=True)
        (given.run / "checkpoints" / "step-000000001.pt").touch()
        top1 = 1 - read_or(given).recipe.model.dropout
        with open(given.run / "metrics.jsonl", "w") as file:
            for epoch in (1, 2):
                row = {"epoch": epoch, "val_top1": top1 * epoch / 2, "val_loss": 1.0}
                print(json.dumps(row), file=file, flush=True)
                if on_epoch(row):
                    return

    def read_or(given: TrainSettings) -> TrainSettings:
        if not given.resume:
            (given.run / "given.json").write_text(json.dumps(given.recipe.model.dropout))
            return given
        model = replace(TINY.model, dropout=json.loads((given.run / "given.json").read_text()))
        return replace(given, recipe=replace(TINY, model=model))

    monkeypatch.setattr(trials, "train", pretend)
    pretend.starts, pretend.settings = starts, replace(settings, out=tmp_path / "fake")
    return pretend


def rows_of(out: Path) -> list[dict]:
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def starts_of(out: Path) -> dict[str, int]:
    """How often each trial was begun or gone on with."""
    return {log.parent.name: log.read_text().count("device: ") for log in sorted(out.glob("trials/*/log.txt"))}


def test_a_search_ends_with_its_files_and_a_run_for_each_trial(result, settings):
    assert all((settings.out / name).exists() for name in FILES)
    assert (settings.out / "history.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((settings.out / "best.json").read_text()) == asdict(result)
    rows = rows_of(settings.out)
    assert [row["state"] for row in rows] == ["complete"] * 3
    for row in rows:
        lines = [json.loads(line) for line in (Path(row["run"]) / "metrics.jsonl").read_text().splitlines()]
        assert float(row["val_top1"]) == max(line["val_top1"] for line in lines)
        assert load_run(Path(row["run"]), device="cpu").model.streams == ("rgb", "audio")


def test_the_best_trial_is_the_best_and_its_settings_are_those_of_its_run(result, settings):
    best = max(rows_of(settings.out), key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
    assert result.trial == int(best["trial"])
    saved, _ = read_settings(Path(result.run))
    assert {name: recipe_options(saved.recipe)[name] for name in result.settings} == result.settings
    assert str(saved.recipe.lr) == best["lr"]


def test_the_first_trial_has_the_settings_that_are_given(result, settings):
    saved, _ = read_settings(folder_of(settings.out, 0))
    assert saved.recipe == TINY


def test_all_trials_share_their_split_and_none_sees_a_test_video(result, settings, store):
    splits = [read_split(folder_of(settings.out, number)) for number in range(3)]
    assert splits[0] == splits[1] == splits[2]
    test = {video.path for video in store.videos if video.split == "test"}
    assert test and not test & {*splits[0].train, *splits[0].val}


def test_the_command_of_the_best_trial_trains_it_again(result, settings):
    python, script, *words = shlex.split(result.train)
    assert (python, script) == ("python", "train.py")
    again = tyro.cli(TrainSettings, args=words, config=(tyro.conf.FlagCreatePairsOff,))
    saved, _ = read_settings(Path(result.run))
    assert again == replace(saved, run=settings.out / "best")
    train(again)
    lines = (settings.out / "best" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line)["val_top1"] for line in lines) == pytest.approx(result.val_top1)


@pytest.mark.slow
def test_the_same_command_goes_on_instead_of_starting_over(result, settings, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(settings.out, out, ignore=shutil.ignore_patterns("best"))
    before = rows_of(out)
    tune(replace(settings, out=out, trials=4))
    after = rows_of(out)
    same = [{name: value for name, value in row.items() if name != "run"} for row in (*before, *after)]
    assert same[:3] == same[3:6] and len(after) == 4
    assert starts_of(out) == {"000": 1, "001": 1, "002": 1, "003": 1}
    assert tune(replace(settings, out=out, trials=4)).trials["COMPLETE"] == 4
    assert starts_of(out) == {"000": 1, "001": 1, "002": 1, "003": 1}


@pytest.mark.slow
def test_a_search_that_goes_on_finds_what_it_would_have_found_at_once(fake, tmp_path):
    once, parts = (replace(fake.settings, out=tmp_path / name) for name in ("once", "parts"))
    tune(replace(once, trials=14))
    for total in (3, 11, 14):
        tune(replace(parts, trials=total))
    values = [[{**row, "run": ""} for row in rows_of(each.out)] for each in (once, parts)]
    assert values[0] == values[1]
    assert len({row["lr"] for row in values[0]}) == 14


@pytest.mark.slow
def test_several_processes_share_a_search_and_no_trial_is_done_twice(settings, tmp_path):
    arguments = ["--data", settings.data, "--streams", "rgb", "--epochs", 1, *SMALL, "--device", "cpu", "--workers", 0]
    done = run("tasks.tune", *arguments, "--trials", 4, "--out", tmp_path / "t", "--parallel", 2)
    assert done.returncode == 0, done.stderr
    assert starts_of(tmp_path / "t") == {f"00{number}": 1 for number in range(4)}
    rows = rows_of(tmp_path / "t")
    assert Counter(row["state"] for row in rows) == {"complete": 4}
    assert len({row["lr"] for row in rows}) == 4
    assert "python train.py" in done.stdout and "trial 003" in done.stdout


@pytest.mark.slow
def test_several_processes_stop_together_also_when_the_one_that_started_them_is_killed(settings, tmp_path):
    out, arguments = tmp_path / "t", ["--data", settings.data, "--streams", "rgb", "--trials", 2, "--epochs", 300]
    arguments += [*SMALL, "--device", "cpu", "--workers", 0, "--parallel", 2, "--out", out]

    def epochs() -> list[int]:
        files = [folder_of(out, number) / "metrics.jsonl" for number in range(2)]
        return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files]

    for kill in (lambda process: os.killpg(process.pid, signal.SIGINT), subprocess.Popen.kill):
        before = epochs()
        process = subprocess.Popen(
            command("tasks.tune", *arguments),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group, as in a terminal
        )
        until = time.monotonic() + 60
        while not all(now > earlier for now, earlier in zip(epochs(), before, strict=True)):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        kill(process)
        _, errors = process.communicate(timeout=60)  # until all have closed their end
        assert "Traceback" not in errors
        for number in range(2):
            with only_one(folder_of(out, number) / "trial.lock", busy="it is still at work"):
                pass
    assert process.returncode == -signal.SIGKILL
    assert starts_of(out) == {"000": 2, "001": 2}
    assert all((folder_of(out, number) / "checkpoints").exists() for number in range(2))


def test_a_trial_that_another_process_does_is_left_to_it(fake):
    settings = replace(fake.settings, trials=2)
    space = prepare(settings)
    _, held = claim(settings, space, open_study(settings, space))
    with held:
        result = tune(settings)
        assert (fake.starts, result.trials["RUNNING"]) == (["001"], 1)
    tune(settings)
    assert fake.starts == ["001", "000"]


@pytest.mark.slow
def test_after_ctrl_c_or_a_kill_the_same_command_goes_on_within_the_trial(settings, tmp_path):
    out, arguments = tmp_path / "t", ["--data", settings.data, "--streams", "rgb", "--trials", 1, "--epochs", 16]
    arguments += [*SMALL, "--device", "cpu", "--workers", 0, "--out", out]
    for number, epochs in ((signal.SIGINT, 2), (signal.SIGKILL, 6)):
        process = subprocess.Popen(
            command("tasks.tune", *arguments), env=environment(), stderr=subprocess.PIPE, text=True
        )
        metrics, until = folder_of(out, 0) / "metrics.jsonl", time.monotonic() + 60
        while not metrics.exists() or len(metrics.read_text().splitlines()) < epochs:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert errors.splitlines()[-1] == "stopped: 0 of 1 trials are done; the same command goes on"
    done = run("tasks.tune", *arguments)
    assert done.returncode == 0, done.stderr
    assert starts_of(out) == {"000": 3}
    assert [row["epoch"] for row in map(json.loads, metrics.read_text().splitlines())] == [*range(1, 17)]
    assert [row["state"] for row in rows_of(out)] == ["complete"]


def test_a_trial_whose_process_dies_each_time_is_given_up(fake, monkeypatch):
    settings = replace(fake.settings, trials=1)
    space = prepare(settings)
    for _ in range(3):
        _, held = claim(settings, space, open_study(settings, space))
        held.close()  # as the system does for a process that dies
    assert tune(settings).trial == 1
    assert [row["state"] for row in rows_of(settings.out)] == ["fail", "complete"]


def test_half_a_line_in_the_journal_does_not_hurt(fake):
    settings = replace(fake.settings, trials=2)
    tune(settings)
    with open(settings.out / "journal.log", "a") as file:
        file.write('{"op_code":6,"wor')
    assert tune(replace(settings, trials=4)).trials["COMPLETE"] == 4
    assert len(fake.starts) == 4


@pytest.mark.slow
def test_trials_that_are_behind_are_given_up_and_their_checkpoints_removed(fake):
    result = tune(replace(fake.settings, trials=60))
    rows = rows_of(fake.settings.out)
    states = Counter(row["state"] for row in rows)
    assert len(fake.starts) == 60 and states["pruned"] >= 5 and states["complete"] >= 10
    for row in rows:
        assert (Path(row["run"]) / "checkpoints").exists() == (row["state"] == "complete")
        assert (row["why"] == "behind after epoch 1") == (row["state"] == "pruned")
    complete = [float(row["dropout"]) for row in rows if row["state"] == "complete"]
    assert result.settings["dropout"] == min(complete) < 0.05
    assert result.best[0]["trial"] == result.trial and len(result.best) == 5
    assert (fake.settings.out / "importance.png").exists()
    assert tune(replace(fake.settings, trials=60, full=True)) == result


def test_with_full_every_trial_comes_to_its_end(fake):
    result = tune(replace(fake.settings, trials=12, full=True))
    assert result.trials == {"COMPLETE": 12, "PRUNED": 0, "FAIL": 0, "RUNNING": 0}


@pytest.mark.slow
def test_a_run_that_diverges_counts_as_a_bad_trial(settings, tmp_path, monkeypatch):
    def diverge(given, on_epoch):
        if given.run.name == "000":
            monkeypatch.setattr(
                "fusion.training.balance.auxiliary.joint_loss", lambda losses, **_: losses[""] * torch.nan
            )
        else:
            monkeypatch.undo()
        return train(given, on_epoch)

    monkeypatch.setattr(trials, "train", diverge)
    recipe = replace(TINY, epochs=4)
    tune(replace(settings, out=tmp_path / "t", trials=2, recipe=recipe))
    rows = rows_of(tmp_path / "t")
    assert [(row["state"], row["why"]) for row in rows] == [("pruned", "no finite loss"), ("complete", "")]


def test_a_trial_without_memory_counts_as_a_bad_one(fake, monkeypatch):
    pretend = trials.train

    def grow(given, on_epoch):
        if given.run.name == "001":
            raise torch.OutOfMemoryError("CUDA out of memory")
        pretend(given, on_epoch)

    monkeypatch.setattr(trials, "train", grow)
    tune(replace(fake.settings, trials=3))
    assert [row["why"] for row in rows_of(fake.settings.out)] == ["", "out of memory", ""]


def test_an_error_that_is_not_the_trials_ends_the_search_and_blocks_nothing(fake, monkeypatch):
    pretend = trials.train
    monkeypatch.setattr(trials, "train", lambda *_: (_ for _ in ()).throw(UserError("the store is gone")))
    with pytest.raises(UserError, match="the store is gone"):
        tune(fake.settings)
    monkeypatch.setattr(trials, "train", pretend)
    assert tune(fake.settings).trials == {"COMPLETE": 3, "PRUNED": 0, "FAIL": 1, "RUNNING": 0}


def test_a_search_with_other_options_is_refused_with_the_difference(result, settings):
    other = replace(settings, recipe=replace(TINY, epochs=3))
    with pytest.raises(UserError, match="--epochs 2, not 3"):
        tune(other)
    with pytest.raises(UserError, match=r"--streams rgb,audio, not rgb"):
        tune(replace(settings, streams="rgb"))
    with pytest.raises(UserError, match=r"--search lr \[0.0001, 0.01\], not \[0.001, 0.01\]"):
        tune(replace(settings, search=("lr=1e-3:1e-2",)))
    assert len(rows_of(settings.out)) == 3


def test_a_search_on_other_data_is_refused_and_moved_data_are_not(result, settings, tmp_path, monkeypatch, capsys):
    other = make_store(tmp_path / "other.h5", three_bit(32, frames=10))
    options = ("--data", other.path, "--out", settings.out, "--streams", "rgb,audio", "--epochs", 2, *SMALL)
    done = run_here(monkeypatch, capsys, *options, main=main)
    assert_one_line_error(done, str(settings.out), "other data", "--out")
    moved = shutil.copy(settings.data, tmp_path / "moved.h5")
    assert tune(replace(settings, data=Path(moved))).trial == result.trial
