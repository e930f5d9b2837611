"""Kill extractions at any moment, and see that the next run ends with the store of a run that nobody disturbed.

    python -m tests.robustness.kills                          # 100 random kills, and kills at every call: two hours
    python -m tests.robustness.kills --runs 20 --boundaries 100       # some of them: five minutes

Random kills go through the real command line: at a random time SIGKILL meets the parent, a worker or all processes;
the same command is run again, is sometimes killed as well, and in the end every byte must be that of the undisturbed
run. A reader looks at the store all the while. Kills at the boundaries of calls are in
tests.robustness.boundaries. The last line is JSON; the status is 1 if anything was not as it must be.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from preprocess.common.command import run_command
from preprocess.common.console import progress
from preprocess.common.errors import UserError
from preprocess.store import Store
from tests.robustness.undisturbed import (
    DYING,
    OUT,
    REPORT,
    Case,
    Recipe,
    Snapshot,
    change_folder,
    session,
    survivors,
    write_folder,
)

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
SETTINGS = ("--short-side", 32, "--mel-bands", 256, "--shard-size", 0.001, "--workers", WORKERS)
RECIPE = Recipe(clips=14, frames=(36, 56))
PATIENCE = 120.0  # seconds after which a run hangs
LOOK = 0.05  # seconds from one look at the store to the next
AGAIN = 0.3  # the share of second runs that are killed as well
VICTIMS = ("parent", "worker", "all")


@dataclass
class Trial:
    """One run that was killed, and what came of it."""

    case: str
    victim: str  # of the first kill
    kills: int = 0
    redone: int = 0  # videos whose work a kill threw away, at most
    faults: list[str] = field(default_factory=list)


def make_cases(folder: Path, recipe: Recipe) -> tuple[list[Case], "Pace"]:
    """Write the videos, and let undisturbed runs make their stores."""
    videos = folder / "videos"
    write_folder(videos, recipe)
    earlier = folder / "earlier"
    earlier.mkdir()
    Pace.of(videos, earlier / OUT)
    change_folder(videos, recipe)
    cases = [Case("fresh", videos, None, folder / "fresh"), Case("grown", videos, earlier, folder / "grown")]
    paces = [Pace.of(videos, case.begin(case.after)) for case in cases]
    return cases, paces[0]


def start(videos: Path, out: Path) -> subprocess.Popen:
    """The command, in a session of its own."""
    command = [sys.executable, "-m", "preprocess.extract", videos, out, *SETTINGS]
    return subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Reader(threading.Thread):
    """Somebody who uses the store while it is made: it must be whole at every look."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out = out
        self.looks = 0
        self.faults: list[str] = []
        self._end = threading.Event()

    def run(self) -> None:
        rng = random.Random(0)
        while not self._end.wait(LOOK):
            if self.out.exists() and (fault := self._look(rng)):
                self.faults.append(fault)

    def _look(self, rng: random.Random) -> str | None:
        store = None
        try:
            store = Store(self.out)
            self.looks += 1
            video = rng.choice(store.videos)
            store.frames(video, "rgb", [rng.randrange(video.frames)])
        except (UserError, OSError) as error:
            if store is not None and Store(self.out).digest != store.digest:
                return None  # replaced between the two reads: its shards may be gone
            return f"a reader saw: {error}"
        return None

    def stop(self) -> None:
        self._end.set()
        self.join()


def kill(run: subprocess.Popen, victim: str, rng: random.Random) -> str:
    """Kill; who it was in the end."""
    if victim == "worker":
        workers = sorted(pid for pid, command in session(run.pid).items() if "spawn_main" in command)
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
            return victim
        victim = "parent"
    with suppress(ProcessLookupError):
        (os.killpg if victim == "all" else os.kill)(run.pid, signal.SIGKILL)
    return victim


@dataclass
class Pace:
    """How long a run takes, in seconds, that nobody disturbs. Other work on the machine changes it."""

    loading: float  # until the first video is begun
    working: float  # from there to the end

    @classmethod
    def of(cls, videos: Path, out: Path) -> "Pace":
        """Run the command to its end.

        Raises RuntimeError if it fails.
        """
        begun = time.monotonic()
        run = start(videos, out)
        while not _at_work(out) and run.poll() is None:
            time.sleep(LOOK)
        loaded = time.monotonic()
        said = run.communicate(timeout=PATIENCE)[0]
        if run.returncode:
            raise RuntimeError(f"status {run.returncode}:\n{said}")
        return cls(loaded - begun, time.monotonic() - loaded)


def _at_work(out: Path) -> bool:
    return any(out.with_name(out.name + ".partial").glob("scratch/*/*"))


def wait_for_moment(run: subprocess.Popen, out: Path, pace: Pace, rng: random.Random) -> None:
    """Wait for the time to kill: half of them are anywhere in the run, half while videos are at work."""
    if rng.random() < 0.5:
        moment = rng.uniform(0, pace.loading + pace.working)
    else:
        while not _at_work(out) and run.poll() is None:
            time.sleep(0.005)
        moment = rng.uniform(0, pace.working)
    with suppress(subprocess.TimeoutExpired):
        run.wait(moment)


def disturbed(case: Case, out: Path, pace: Pace, rng: random.Random) -> Trial:
    """Kill a run, let it be run again until it ends, and compare."""
    trial = Trial(case.name, rng.choice(VICTIMS))
    case.begin(out.parent)
    before, snapshot, reader = Snapshot.of(out, case.videos), None, Reader(out)
    reader.start()
    try:
        while True:
            run = start(case.videos, out)
            last = trial.kills > 0 and rng.random() > AGAIN
            if not last:
                wait_for_moment(run, out, pace, rng)
            if not last and run.poll() is None:
                trial.kills += 1
                victim = kill(run, trial.victim if trial.kills == 1 else rng.choice(("parent", "all")), rng)
                trial.victim = victim if trial.kills == 1 else trial.victim
                if victim != "worker":  # else the run goes on by itself
                    run.wait()  # not for the end of its output: that would wait for whoever is alive
                    if alive := survivors(run.pid):
                        trial.faults.append(f"alive after {DYING} s: {alive}")
                    run.stdout.close()
                    snapshot = Snapshot.of(out, case.videos)
                    trial.redone = max(trial.redone, snapshot.halves)
                    continue
            try:
                said = run.communicate(timeout=PATIENCE)[0]
            except subprocess.TimeoutExpired:
                trial.faults.append(f"hangs: {session(run.pid)}")
                os.killpg(run.pid, signal.SIGKILL)
                said = run.communicate()[0]
            if run.returncode:
                trial.faults.append(f"status {run.returncode}: {said}")
            if alive := survivors(run.pid):
                trial.faults.append(f"alive after the end: {alive}")
            break
    finally:
        reader.stop()
    if trial.redone > WORKERS:
        trial.faults.append(f"{trial.redone} videos were at work")
    trial.faults += reader.faults + case.faults(out) + wasted(case, out, snapshot or before)
    return trial


def wasted(case: Case, out: Path, snapshot: Snapshot) -> list[str]:
    """What the last run did though the run before it had done it."""
    if not (out.parent / REPORT).exists():
        return ["there is no report"]
    report = json.loads((out.parent / REPORT).read_text())
    rows = report["videos"]
    found = []
    left = sum(row["path"] not in snapshot.settled for row in rows)
    if report["videos_done"] != left:
        found.append(f"the last run did {report['videos_done']} videos, and {left} were not done")
    copies = Counter(row["content"] for row in rows)  # one may be decoded again when its like has gone into a shard
    for row in rows:
        new = row["path"] not in snapshot.settled and copies[row["content"]] == 1
        if new and row["content"] in snapshot.whole and "decode" in row["cpu"]:
            found.append(f"{row['path']} was decoded again")
    return found


def random_kills(folder: Path, *, runs: int, seed: int, recipe: Recipe = RECIPE) -> list[Trial]:
    """So many runs killed at random times."""
    cases, pace = make_cases(folder, recipe)
    trials = []
    for number in progress(range(runs), unit="run", name="random kills"):
        rng = random.Random(f"{seed} {number}")
        case = cases[number % len(cases)]
        trials.append(disturbed(case, folder / "trial" / OUT, pace, rng))
        if trials[-1].faults:
            kept = folder / f"failed-{number}"
            shutil.copytree(folder / "trial", kept)
            print(f"run {number} (kept in {kept}): {json.dumps(asdict(trials[-1]))}", flush=True)
    return trials


def figures(trials: list[Trial]) -> dict:
    """What the random kills come to."""
    return {
        "runs": len(trials),
        "kills": sum(trial.kills for trial in trials),
        "victims": dict(Counter(trial.victim if trial.kills else "none: it had ended" for trial in trials)),
        "identical": sum(not trial.faults for trial in trials),
        "redone_at_most": max(trial.redone for trial in trials),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="random kills")
    parser.add_argument("--boundaries", default="all", help="kills at calls: all, or a number of them evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; what failed is kept there")
    settings = parser.parse_args()
    from tests.robustness.boundaries import boundary_kills

    if settings.folder:
        settings.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=settings.folder))
    (folder / "random").mkdir()
    (folder / "boundaries").mkdir()
    found = {"seed": settings.seed}
    if settings.runs:
        found["random"] = figures(random_kills(folder / "random", runs=settings.runs, seed=settings.seed))
    limit = None if settings.boundaries == "all" else int(settings.boundaries)
    if limit != 0:
        found["boundaries"] = boundary_kills(folder / "boundaries", limit=limit, seed=settings.seed)
    print(json.dumps(found))
    clean = all(part["identical"] == part["runs"] for part in (found.get("random"), found.get("boundaries")) if part)
    if clean:
        shutil.rmtree(folder)
    return 0 if clean else 1


if __name__ == "__main__":
    run_command(main)
