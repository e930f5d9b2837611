"""Does a killed training lose anything? Kill tiny trainings at random moments, go on, and compare bit for bit.

    python -m tests.robustness.train_kills             # 50 runs, some minutes
    python -m tests.robustness.train_kills --runs 3

Each run is killed by SIGKILL up to three times, at moments drawn over its length, every second time while it
writes a file; it saves after every step. Then it is let go on to its end, and its weights and metrics are compared
with those of a run that nobody disturbed. Prints one JSON line last; ends with status 1 if a run came out differently.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is loaded: a process that is forked has no threads

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.utils.tensorboard  # noqa: F401  # loaded once, here, so that the processes start at once

from preprocess.common.command import run_command
from tests.support.stores import make_store, three_bit
from train import main as train

MEASURED = ("seconds", "clips_per_second", "frames_per_second", "waiting_share", "memory_gb")  # differs from run to run
SETTINGS = (
    *("--epochs", 2, "--batch", 4, "--frames", 2, "--size", 32, "--audio-seconds", 0.16),
    *("--width", 2, "--feature", 8, "--device", "cpu"),
)
KILLS = 3  # of a run, at the most
PATIENCE = 120.0  # seconds that a run may take


@dataclass
class Outcome:
    """What became of one process."""

    status: int  # below zero: the signal that ended it
    seconds: float
    ready: float  # seconds until its first checkpoint was there
    output: str


def training(*arguments: object, log: Path, kill_after: float | None = None, writing_to: Path | None = None) -> Outcome:
    """Run train.py in a process of its own, kill it after some seconds if it still runs: when it next writes a file."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["train.py", *map(str, arguments)]
        try:
            run_command(train)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        finally:
            os._exit(70)
    checkpoints = Path(arguments[arguments.index("--run") + 1]) / "checkpoints"
    ready = 0.0
    until = begun + (PATIENCE if kill_after is None else kill_after)
    status = None
    while status is None:
        if not ready and checkpoints.is_dir():
            ready = time.monotonic() - begun
        found, code = os.waitpid(child, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() >= until and (writing_to is None or _writes(writing_to)):
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            time.sleep(0.0002 if time.monotonic() >= until else 0.002)
    return Outcome(status, time.monotonic() - begun, ready, log.read_text())


def _writes(run: Path) -> bool:
    """Whether a file is there that has not got its name yet."""
    folders = (run, run / "checkpoints")
    return any(name.endswith(".part") for folder in folders if folder.is_dir() for name in os.listdir(folder))


def result(run: Path) -> tuple[bytes, bytes, list[dict]]:
    """What a run came to: last and best weights, metrics without speeds."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]
    return (run / "last.safetensors").read_bytes(), (run / "best.safetensors").read_bytes(), kept


def disturb(
    folder: Path, data: Path, rng: np.random.Generator, *, between: tuple[float, float], workers: int
) -> tuple[Path, dict]:
    """One run that is killed a few times and then ends; returns its folder and what happened."""
    run, log, counts = folder / "run", folder / "log", {"kills": 0, "while_writing": 0, "without_checkpoint": 0}
    moments = rng.uniform(*between, rng.integers(1, KILLS + 1))
    for number, moment in enumerate([*moments, None]):
        aim = run if number % 2 == 0 and moment is not None else None
        resume = any((run / "checkpoints").glob("step-*.pt"))
        counts["without_checkpoint"] += not resume and counts["kills"] > 0
        start = ["--resume"] if resume else ["--data", data, *SETTINGS]
        machine = ["--device", "cpu", "--workers", workers, "--save-minutes", 0]
        outcome = training("--run", run, *start, *machine, log=log, kill_after=moment, writing_to=aim)
        if outcome.status == 0:
            return run, counts
        if moment is None or outcome.status != -signal.SIGKILL:
            raise SystemExit(f"a run ended with status {outcome.status}:\n{outcome.output}")
        counts["kills"] += 1
        counts["while_writing"] += _writes(run)
    raise AssertionError("the last process is not killed")


def measure(runs: int, seed: int) -> dict:
    """Kill, compare, count."""
    import cv2

    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    totals = {"runs": runs, "identical": 0, "kills": 0, "while_writing": 0, "without_checkpoint": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_store(folder / "toy.h5", three_bit(32, frames=10))
        machine = ["--workers", 0, "--save-minutes", 0]
        whole = training("--run", folder / "whole", "--data", store.path, *SETTINGS, *machine, log=folder / "log")
        if whole.status:
            raise SystemExit(whole.output)
        expected = result(folder / "whole")
        between = (0.7 * whole.ready, whole.seconds)  # sometimes before anything is saved
        for number in range(runs):
            while True:
                place = Path(tempfile.mkdtemp(dir=folder))
                run, counts = disturb(place, store.path, rng, between=between, workers=number % 2)
                if counts["kills"]:
                    break
                between = (0.8 * between[0], 0.8 * between[1])  # the machine is faster than it was: all came too late
            same = result(run) == expected
            totals["identical"] += same
            for key, value in counts.items():
                totals[key] += value
            verdict = "identical" if same else "DIFFERENT"
            print(f"run {number + 1}/{runs}: {verdict} after {counts['kills']} kills", flush=True)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    totals = measure(arguments.runs, arguments.seed)
    print(json.dumps(totals))
    sys.exit(totals["identical"] != totals["runs"])


if __name__ == "__main__":
    main()
