"""Kill an extraction at every call that changes what lies in its folder, run it again, and compare.

    python -m tests.robustness.kills --runs 0                    # all boundaries, from tests.robustness.kills

A small library (boundaries.c, compiled here, loaded with LD_PRELOAD) counts the calls, write, fsync, link, rename,
unlink, mkdir, ftruncate and open with O_CREAT, of the run and its workers together, and at the one that is wanted
SIGKILL ends all of them, or only the process that calls; a write may be made by half first. The call before which one
dies is the call after which one dies if the number is one less: every boundary is met.

Starting Python and its libraries takes seconds and a few hundred kills would take hours. So runs are forked from one
process that has loaded everything, and so are their workers: other than in `python -m preprocess.extract`, where they
are spawned. All that is killed is the program's own code in processes of its own.
"""

import argparse
import ctypes
import json
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import SimpleNamespace

from preprocess.common.console import progress
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.seal import Broken, verify
from tests.robustness.undisturbed import Case, Recipe, change_folder, survivors, write_folder

SOURCE = Path(__file__).with_suffix(".c")
RECIPE = Recipe(clips=6, frames=(3, 5))
SHARD_SIZE = 2.5e-5  # GB: two or three of these videos; less than the command line takes
WORKERS = 2
PATIENCE = 60.0  # seconds after which a run hangs
CASES = ("fresh", "grown", "parts", "merge")


class State(ctypes.Structure):
    """What the library counts; struct state in boundaries.c."""

    _fields_ = (
        ("count", ctypes.c_long),
        ("target", ctypes.c_long),
        ("group", ctypes.c_int),
        ("torn", ctypes.c_int),
        ("pid", ctypes.c_int),
        ("call", ctypes.c_char * 20),
        ("path", ctypes.c_char * 4096),
    )


@dataclass(frozen=True)
class Boundary:
    """Where to kill, and whom."""

    case: str
    call: int  # its number in the run
    group: bool  # all processes, not just the one that calls
    torn: bool


def boundary_kills(
    folder: Path, *, limit: int | None, seed: int, cases: tuple[str, ...] = CASES, only: tuple[str, ...] = ()
) -> dict:
    """Kill at all boundaries, or at `limit` of them, evenly spread; figures of what came of it.

    `only` are the names of the calls that count, for instance rename.

    Raises UserError if there is no C compiler.
    """
    library = compile_library(folder)
    arguments = ["--limit", str(limit or 0), "--seed", str(seed), "--cases", ",".join(cases), "--only", " ".join(only)]
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.robustness.boundaries", str(folder), *arguments],
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(SOURCE.parent.parent)} | _one_thread(),
        stdout=subprocess.PIPE,
        text=True,
    )
    head = json.loads(run.stdout.readline() or "null")
    found = []
    if head:
        for line in progress(run.stdout, total=head["boundaries"], unit="kill", name="boundaries"):
            found.append(json.loads(line))
            if found[-1]["faults"]:
                print(line.rstrip(), flush=True)
    if run.wait():
        raise RuntimeError("the process that runs are forked from has failed")
    met = [trial for trial in found if trial["by"]]
    return {
        "runs": len(found),
        "calls": head["calls"],
        "killed": len(met),
        "by": dict(Counter(trial["by"] for trial in met)),
        "at": dict(Counter(trial["at"].split()[0] for trial in met)),
        "identical": sum(not trial["faults"] for trial in found),
    }


def compile_library(folder: Path) -> Path:
    """The counting library.

    Raises UserError if there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise UserError("kills at boundaries need a C compiler: install cc, or use --boundaries 0")
    library = folder / "boundaries.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def _one_thread() -> dict[str, str]:
    from preprocess.common.processes import ONE_THREAD

    return dict.fromkeys(ONE_THREAD, "1")


class Bench:
    """The warm process, and the runs that are forked from it."""

    def __init__(self, folder: Path, library: Path, only: str = "") -> None:
        from preprocess.extraction.local import warm_up
        from preprocess.video.settings import PieceSettings
        from preprocess.workers import pool

        self.folder = folder
        self.only = f" {only} ".encode() if only else b""
        self.settings = PieceSettings(short_side=32, flow_engine="cpu")
        self.library = ctypes.CDLL(str(library))
        self.memory = mmap.mmap(-1, ctypes.sizeof(State))  # shared with what is forked
        self.state = State.from_buffer(self.memory)
        self.log = folder / "log.txt"
        warm_up(self.settings)
        resource_tracker.ensure_running()  # one for all
        pool.multiprocessing = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))

    def steps(self, case: str, videos: Path, out: Path) -> list[Callable[[], object]]:
        """What a user would run to get a store."""
        if case == "merge":
            from preprocess.merge import merge

            stores = [self.folder / f"{number}.h5" for number in (1, 2)]

            def join() -> None:
                try:
                    merge(stores, out, shard_bytes=SHARD_SIZE * 1e9)
                except UserError as error:  # killed when all was done: what a second merge would say anyway
                    if f"{out} exists" not in str(error):
                        raise

            return [join]
        parts = ("1/2", "2/2") if case == "parts" else ("1/1",)
        return [self._extraction(videos, out, part=part) for part in parts]

    def _extraction(self, videos: Path, out: Path, **settings) -> Callable[[], object]:
        """As preprocess.extract.extract, but for the checks of its arguments: the shards may be tiny."""
        from preprocess.extract import Extraction, find
        from preprocess.extraction.settings import ExtractSettings

        settings = ExtractSettings(videos, out, workers=WORKERS, shard_size=SHARD_SIZE, store=self.settings, **settings)

        def run() -> None:
            found = find(settings)
            parameters = json.loads(json.dumps(self.settings.parameters()))
            Extraction(settings, parameters, found).run()

        return run

    def run(self, case: Case, out: Path, boundary: Boundary | None = None) -> int:
        """Fork a run, in a session of its own, and wait for it: its status, negative if a signal ended it."""
        ctypes.memset(ctypes.addressof(self.state), 0, ctypes.sizeof(State))
        if boundary:
            self.state.target, self.state.group, self.state.torn = boundary.call, boundary.group, boundary.torn
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setsid()
                log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                self.library.boundaries_arm(ctypes.byref(self.state), os.fsencode(out.parent), self.only)
                for step in self.steps(case.name, case.videos, out):
                    step()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return self._wait(child)

    def _wait(self, child: int) -> int:
        end = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise RuntimeError(f"hangs: {self.log.read_text()}")
            time.sleep(0.003)
        if alive := survivors(child):
            raise RuntimeError(f"alive: {alive}")
        return os.waitstatus_to_exitcode(status)

    def undisturbed(self, case: Case, out: Path) -> int:
        """Run to the end; how many calls it makes.

        Raises RuntimeError if it fails.
        """
        if self.run(case, out):
            raise RuntimeError(self.log.read_text())
        return self.state.count

    def disturbed(self, case: Case, boundary: Boundary) -> dict:
        """Kill at a boundary, run again, and compare."""
        out = case.begin(self.folder / "trial")
        by, at, faults = None, None, []
        try:
            status = self.run(case, out, boundary)
            if self.state.pid:
                by = "parent" if status < 0 and not boundary.group else "all" if boundary.group else "worker"
                at = f"{self.state.call.decode()} {Path(self.state.path.decode()).relative_to(out.parent)}"
            if status < 0:
                faults += look(out)
                status = self.run(case, out)
            if status:
                faults.append(self.log.read_text()[-2000:])
            faults += look(out) + case.faults(out)
        except RuntimeError as error:
            faults.append(str(error))
        if faults:
            kept = self.folder / f"failed-{boundary.case}-{boundary.call}-{boundary.group:d}-{boundary.torn:d}"
            shutil.copytree(out.parent, kept, dirs_exist_ok=True)
        return {**vars(boundary), "by": by, "at": at, "faults": faults}


def look(out: Path) -> list[str]:
    """What is wrong with a store, if there is one: every byte of all its files is looked at."""
    if not out.exists():
        return []
    try:
        for path in Store(out).files():
            verify(path)
    except (UserError, Broken, OSError) as error:
        return [f"a reader saw: {error}"]
    return []


def make_cases(bench: Bench, names: list[str]) -> Iterator[tuple[Case, int]]:
    """The cases, each with the calls of its undisturbed run."""
    videos = bench.folder / "videos"
    write_folder(videos, RECIPE)
    earlier = Case("fresh", videos, None, bench.folder / "earlier")
    bench.undisturbed(earlier, earlier.begin(earlier.after))
    shutil.copytree(videos, bench.folder / "old videos")
    change_folder(videos, RECIPE)
    if "merge" in names:
        shared = ("class0/00.mp4", "class1/01.mp4")
        for number in (1, 2):
            some = bench.folder / f"videos {number}"
            for k, path in enumerate(sorted(videos.rglob("*.mp4"))):
                name = str(path.relative_to(videos))
                if k % 2 + 1 == number or name in shared:
                    (some / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, some / name)
            bench.undisturbed(Case("fresh", some, None, some), bench.folder / f"{number}.h5")
    for name in names:
        case = Case(name, videos, earlier.after if name == "grown" else None, bench.folder / name)
        yield case, bench.undisturbed(case, case.begin(case.after))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--cases")
    parser.add_argument("--only")
    settings = parser.parse_args()
    bench = Bench(settings.folder.resolve(), Path(os.environ.pop("LD_PRELOAD")), settings.only)
    cases, calls = {}, {}
    for case, count in make_cases(bench, settings.cases.split(",")):
        cases[case.name], calls[case.name] = case, count
    rng = random.Random(settings.seed)
    boundaries = [
        Boundary(name, call, group, torn=rng.random() < 0.5)
        for name, count in calls.items()
        for call in range(1, count + 1)
        for group in (True, False)
    ]
    if settings.limit and settings.limit < len(boundaries):
        step = len(boundaries) / settings.limit
        boundaries = [boundaries[int((k + rng.random()) * step)] for k in range(settings.limit)]
    print(json.dumps({"boundaries": len(boundaries), "calls": calls}), flush=True)
    for boundary in boundaries:
        print(json.dumps(bench.disturbed(cases[boundary.case], boundary)), flush=True)


if __name__ == "__main__":
    main()
