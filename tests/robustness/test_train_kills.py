"""train.py where it is stopped, killed or damaged: nothing that was learned is lost."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import Machine, TrainSettings
from preprocess.common.errors import UserError
from tests.support.commands import ROOT, command, environment
from tests.support.stores import make_store, three_bit
from tests.test_train import TINY, assert_same_run, resume, rows_of, settings_of
from train import train

OPTIONS = (
    *("--epochs", TINY.epochs, "--batch", TINY.batch, "--frames", TINY.clip.frames, "--size", TINY.clip.size),
    *("--audio-seconds", TINY.clip.audio_seconds, "--width", TINY.model.width, "--feature", TINY.model.feature),
)
ALONE = environment() | {"OMP_NUM_THREADS": "1"}
PATIENCE = 170  # seconds
pytestmark = pytest.mark.usefixtures("one_thread")  # as the processes that are started here have


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(40))


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory) -> Path:
    settings = settings_of(store, tmp_path_factory.mktemp("runs") / "undisturbed", save_minutes=0.0, keep=3)
    return train(settings)


def start(*arguments: object, launcher: tuple[object, ...] = ("train",)) -> subprocess.Popen:
    """Start train.py, in a group of its own as a shell does."""
    return subprocess.Popen(
        command(*launcher, *arguments),
        env=ALONE,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(folder: Path, steps: int, process: subprocess.Popen) -> None:
    """Until a checkpoint is there of so many steps or more."""
    until = time.monotonic() + PATIENCE
    name = f"step-{steps:09d}.pt"
    while not any(path.name >= name for path in Checkpoints(folder, keep=1).files()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


def where(folder: Path, *, workers: int = 0, save_minutes: float = 0.0) -> tuple[object, ...]:
    return "--run", folder, "--device", "cpu", "--workers", workers, "--save-minutes", save_minutes


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [(0, (1, 9)), (1, (5,))])
def test_a_run_that_is_killed_again_and_again_comes_out_the_same_bit_for_bit(
    undisturbed, store, tmp_path, workers, kills
):
    """tests.robustness.train_kills shows it at length."""
    folder, chance = tmp_path / "run", random.Random(workers)
    begin = ("--data", store.path, *OPTIONS)
    for steps in kills:
        process = start(*where(folder, workers=workers), *begin)
        begin = ("--resume",)
        wait_for(folder, steps, process)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        end(process)  # and at once again: no worker holds the lock
    status, _, err = end(start(*where(folder, workers=workers), "--resume"))
    assert status == 0, err
    assert_same_run(undisturbed, folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_does_so_after_a_step_and_says_how_to_go_on(undisturbed, store, tmp_path, number):
    """Ctrl-C goes to all processes of the terminal, those that read too, and so do the signals of many clusters."""
    folder = tmp_path / "run"
    process = start(*where(folder, workers=1), "--data", store.path, *OPTIONS, "--epochs", 400)
    wait_for(folder, 4, process)
    os.killpg(process.pid, number)
    before = Checkpoints(folder, keep=9).files()[0].name
    status, _, err = end(process)
    assert status == 130, err
    _, line = (line for line in err.splitlines() if line and "it/s" not in line and "step/s" not in line)
    step = int(re.search(r"step (\d+)", line)[1])
    assert f"--run {folder} --resume" in line
    newest = Checkpoints(folder, keep=9).files()[0].name
    assert newest == f"step-{step:09d}.pt" and step <= int(before[5:14]) + 2
    assert "Traceback" not in err


def test_a_step_asked_to_stop_is_saved_whole_and_the_run_goes_on_from_there(undisturbed, store, tmp_path, monkeypatch):
    from preprocess.common.stopping import Stopping

    asked, real = [], Stopping.__init__

    def soon(self, **answer: str) -> None:
        real(self, **answer)
        asked.append(self)

    monkeypatch.setattr(Stopping, "__init__", soon)
    import train as training

    step = training.Step.__call__

    def signalled(self, *positional, **named):
        if positional[1] in (5, 6):  # once within an epoch, once more right after
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *positional, **named)

    monkeypatch.setattr(training.Step, "__call__", signalled)
    settings = settings_of(store, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt, match=r"step 7.*--run .*--resume"):
        train(settings)
    monkeypatch.undo()
    train(TrainSettings(run=settings.run, resume=True, machine=settings.machine))
    assert_same_run(undisturbed, settings.run)


def test_the_last_few_checkpoints_are_kept(undisturbed):
    names = [path.name for path in Checkpoints(undisturbed, keep=9).files()]
    assert names == [f"step-{step:09d}.pt" for step in (16, 15, 14)]


def flip(path: Path) -> None:
    """A bit in each byte of a stretch that is longer than the padding between two records, of which there is no sum."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 + 99):
        data[place] ^= 0x10
    path.write_bytes(data)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-300]),
    "flipped": flip,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_whose_newest_checkpoints_are_damaged_goes_on_from_the_one_before(
    undisturbed, store, tmp_path, capsys, damage
):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    files = Checkpoints(folder, keep=9).files()
    for path in files[:2]:
        DAMAGES[damage](path)
    resume(folder, store.path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert [str(path) in line for path, line in zip(files, lines, strict=False)] == [True, True]
    assert_same_run(undisturbed, folder)


def test_a_run_without_a_whole_checkpoint_is_one_line_and_is_not_overwritten(undisturbed, store, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    for path in Checkpoints(folder, keep=9).files():
        DAMAGES["cut"](path)
    with pytest.raises(UserError, match="checkpoints"):
        resume(folder, store.path)
    with pytest.raises(UserError, match="run"):
        train(settings_of(store, folder))
    assert rows_of(folder) == rows_of(undisturbed)


def test_a_run_that_got_to_no_checkpoint_begins_again_under_its_name(undisturbed, store, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(UserError, match="--resume"):
        resume(folder, store.path)
    train(settings_of(store, folder))
    assert_same_run(undisturbed, folder)


def test_steps_without_a_finite_loss_are_named_and_too_many_end_the_run(store, tmp_path, monkeypatch, capsys):
    from fusion.training.balance import auxiliary

    real = auxiliary.joint_loss
    bad = {3, 4}
    calls = []

    def spoiled(*positional, **named):
        loss = real(*positional, **named)
        calls.append(1)
        return loss * float("nan") if len(calls) - 1 in bad else loss

    monkeypatch.setattr(auxiliary, "joint_loss", spoiled)
    folder = train(settings_of(store, tmp_path / "run"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "no finite loss" in line]
    assert [line.split(" has ")[0] for line in lines] == ["note: step 4", "note: step 5"]
    assert all(line.count(".mp4") == 8 for line in lines)
    assert all(row["loss"] > 0 for row in rows_of(folder))
    calls.clear()
    bad.update(range(6, 99))
    with pytest.raises(UserError, match="steps 7 to 11"):
        train(settings_of(store, tmp_path / "other", save_minutes=0.0))
    assert Checkpoints(tmp_path / "other", keep=9).files()
    monkeypatch.undo()
    resume(tmp_path / "other", store.path)
    assert len(rows_of(tmp_path / "other")) == TINY.epochs


TORCHRUN = ("torch.distributed.run", "--nproc-per-node", 2, "--master-addr", "127.0.0.1")


@pytest.mark.slow
def test_two_processes_train_one_run_end_to_end_also_stopped_in_its_middle(store, tmp_path):
    port = ("--master-port", 20000 + os.getpid() % 20000)
    launch = (*TORCHRUN, *port, "--", str(ROOT / "train.py"))  # else --run is taken for its --run-path
    whole, folder = tmp_path / "whole", tmp_path / "run"
    status, out, err = end(start(*where(whole), "--data", store.path, *OPTIONS, launcher=launch))
    assert status == 0, err
    assert out.count("epoch   1") == 1 and out.count("judge it with") == 1  # one of the two prints
    assert len(rows_of(whole)) == TINY.epochs and (whole / "best.safetensors").exists()
    process = start(*where(folder, save_minutes=5.0), "--data", store.path, *OPTIONS, launcher=launch)
    wait_for(folder, 4, process)
    os.killpg(process.pid, signal.SIGTERM)  # the launcher hands it on: the processes hear it twice
    status, _, err = end(process)
    assert status != 0 and f"--run {folder} --resume" in err, err
    status, _, err = end(start(*where(folder), "--resume", launcher=launch))
    assert status == 0, err
    assert_same_run(whole, folder)


@pytest.mark.slow
def test_the_benchmark_of_kills_finds_no_difference():
    result = subprocess.run(
        [sys.executable, "-m", "tests.robustness.train_kills", "--runs", "1"],
        cwd=ROOT,
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    totals = json.loads(result.stdout.splitlines()[-1])
    assert totals["runs"] == totals["identical"] == 1 and totals["kills"] >= 1


def test_what_a_machine_may_change_when_a_run_goes_on(undisturbed, store, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    machine = Machine(workers=1, device="cpu", keep=1, save_minutes=60.0)
    train(TrainSettings(run=folder, resume=True, data=store.path, machine=machine))
    assert_same_run(undisturbed, folder)
