"""Hostile input costs itself alone: mutated files, files that lead elsewhere, and bombs, by the real command line.

    python -m tests.robustness.hostile                  # 2,000 mutated files: about three minutes on two cores
    python -m tests.robustness.hostile --count 200      # a minute and a half
    python -m tests.robustness.hostile --only mutants --keep FOLDER

Makes its own files. Says what went wrong, and ends with status 1 if anything did; the last line is JSON.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from preprocess.common.processes import family, own_memory
from preprocess.video.duration import tolerance
from tests.robustness import oracle, traps
from tests.robustness.bombs import write_bombs
from tests.robustness.mutants import Mutant, write_mutants, write_originals

ROOT = Path(__file__).resolve().parents[2]
REASONS = {
    *("corrupt", "no video", "not media", "encrypted", "unreadable", "too short", "too long", "too large"),
    *("hang", "crashed", "link"),
}
STALL = 10.0  # s; --stall-seconds of the runs
SLOWEST = 30.0  # --slowest, as it is by default
MEMORY_MB = 1500  # --memory-mb, as it is by default
LATE = 5.0  # s; by which a busy machine may be late to see that a file is over its limit
GIVEN_UP = 120.0  # s; that a file may take before it is too long, or its timestamps jump
BOMB_SECONDS = 7200  # --max-seconds of the bombs' run: a still for twelve hours is no bomb, but takes as long


@dataclass
class Run:
    """One run of python -m preprocess.extract."""

    status: int
    output: str
    took: float  # s
    rows: list[dict]  # of the report
    peak: float = 0.0  # MB of private memory of all its processes
    peak_worker: float = 0.0  # MB of the largest one
    faults: list[str] = field(default_factory=list)

    def check(self, files: set[str]) -> None:
        """Note what is wrong with the run, if it was over these files."""
        if self.status != 0:
            self.faults.append(f"the run ended with status {self.status}: {self.output[-500:]}")
        if "Traceback" in self.output:
            self.faults.append(f"a traceback: {self.output[self.output.index('Traceback') :][:1500]}")
        for path, times in Counter(row["path"] for row in self.rows).items():
            if times != 1:
                self.faults.append(f"{path!r} is in the report {times} times")
        there = {row["path"] for row in self.rows}
        self.faults += [f"{path!r} is not in the report" for path in sorted(files - there)]
        self.faults += [f"{path!r} is in the report, and is no file of the run" for path in sorted(there - files)]
        for row in self.rows:
            if row["status"] not in ("used", "truncated", "rejected"):
                self.faults.append(f"{row['path']!r}: status {row['status']}")
            if (row["status"] == "rejected") != bool(row["reason"]):
                self.faults.append(f"{row['path']!r}: {row['status']} with the reason {row['reason']}")
            if row["reason"] and row["reason"].split(":")[0] not in REASONS:
                self.faults.append(f"{row['path']!r}: an unknown reason: {row['reason']}")
            if row["took"] > self._may_take(row):
                self.faults.append(f"{row['path']!r} took {row['took']:.1f} s")
        if self.peak_worker > MEMORY_MB * 1.05 + 700:  # what a worker has at rest, most of it libraries
            self.faults.append(f"a worker took {self.peak_worker:.0f} MB")

    @staticmethod
    def _may_take(row: dict) -> float:
        """Seconds; of a file that was given up, the report does not say how many of its own seconds were done."""
        given_up = (row["reason"] or "").startswith(("too long", "corrupt: timestamps jump"))
        return GIVEN_UP if given_up else STALL + SLOWEST * row.get("seconds", 0.0) + LATE


def extract(
    videos: Path,
    out: Path,
    *,
    workers: int,
    show: bool = True,
    tracer: Sequence[str] = (),
    options: Sequence[object] = (),
) -> Run:
    """Run the command over a folder; `show` its progress."""
    command = [*tracer, sys.executable, "-m", "preprocess.extract", videos, out, "--workers", workers]
    command += ["--short-side", 32, "--stall-seconds", STALL, "--slowest", SLOWEST, "--memory-mb", MEMORY_MB, *options]
    begun = time.monotonic()
    log = out.with_suffix(".log")
    with open(log, "wb") as stream:
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=stream, stderr=stream)
        peaks = [0.0, 0.0]
        watcher = threading.Thread(target=_watch, args=(process, peaks))
        watcher.start()
        while process.poll() is None:
            time.sleep(0.2)
            if show:
                done = log.read_text(errors="replace").rpartition("extract:")[2].partition("\n")[0]
                print(f"\r{videos.parent.name}:{done.strip()[:70]:70}", end="", file=sys.stderr, flush=True)
        watcher.join()
    if show:
        print(file=sys.stderr)
    report = out.with_name(f"{out.stem}.report.json")
    rows = json.loads(report.read_text())["videos"] if report.exists() else []
    output = log.read_text(errors="replace")
    return Run(process.returncode, output, time.monotonic() - begun, rows, peak=peaks[0], peak_worker=peaks[1])


def _watch(process: subprocess.Popen, peaks: list[float]) -> None:
    while process.poll() is None:
        each = [own_memory(pid) / 1e6 for pid in family(process.pid)]
        peaks[:] = max(peaks[0], sum(each)), max(peaks[1], *each, 0.0)
        time.sleep(0.1)


def kind(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"[\d.e+×-]*\d[\d.e+×-]*", "#", re.sub(r" \(.*\)", "", reason))


def summary(run: Run) -> dict:
    """What is common to the figures of all runs."""
    slowest = max(run.rows, key=lambda row: row["took"], default=None)
    return {
        "files": len(run.rows),
        **Counter(row["status"] for row in run.rows),
        "reasons": dict(Counter(kind(row["reason"]) for row in run.rows if row["reason"]).most_common()),
        "slowest": slowest and [slowest["path"], round(slowest["took"], 1)],
        "seconds": round(run.took, 1),
        "peak_mb": round(run.peak),
        "peak_process_mb": round(run.peak_worker),
        "faults": len(run.faults),
    }


def silent(mutants: Sequence[Mutant], run: Run, promised: dict[str, oracle.Promises | None]) -> dict:
    """Of the files that are used and not marked, those shorter than their originals; did anything reveal it?

    Notes those as faults. `promised` by path.
    """
    rows = {row["path"]: row for row in run.rows}
    figures = Counter(short_unmarked=0, short_unmarked_and_revealed=0)
    for mutant in mutants:
        row = rows.get(mutant.path)
        if row is None or row["status"] != "used":
            continue
        original, said = mutant.original, promised[mutant.path]
        missing = {
            source: seconds
            for source, seconds in ({"original": original.seconds} | (said or {})).items()
            if seconds - row["seconds"] > tolerance(seconds, step=original.step) + original.step / 2
        }
        if "original" in missing:
            figures["short_unmarked"] += 1
            figures[f"short_unmarked, {original.kind}"] += 1
            if len(missing) > 1:
                figures["short_unmarked_and_revealed"] += 1
                what = f"{row['seconds']:.2f} s of {original.seconds:.2f} s used in silence, though {missing}"
                run.faults.append(f"{mutant.path} ({original.kind}, {mutant.how}): {what}")
        elif missing:
            figures["whole_though_more_is_promised"] += 1  # what a broken number says; the pictures are all there
    return dict(figures)


def mutated(folder: Path, *, count: int, seed: int, workers: int, show: bool = True) -> tuple[Run, dict]:
    """Mutants of good videos: the run, and its figures."""
    originals = write_originals(folder / "originals", seed=seed)
    mutants = write_mutants(folder / "videos", originals, count=count, seed=seed)
    run = extract(folder / "videos", folder / "out.h5", workers=workers, show=show)
    run.check({mutant.path for mutant in mutants})
    said = oracle.ask([str(folder / "videos" / mutant.path) for mutant in mutants])
    shorts = silent(mutants, run, {mutant.path: said[str(folder / "videos" / mutant.path)] for mutant in mutants})
    return run, {**summary(run), **shorts}


def attacked(folder: Path, *, workers: int, show: bool = True) -> tuple[Run, dict]:
    """Files that lead elsewhere. Under strace, where there is one that may trace."""
    with traps.listening() as (port, callers):
        trap = traps.write_traps(folder, port=port)
        out = folder / "out" / "out.h5"
        out.parent.mkdir()
        before = traps.looks(folder, but=out.parent)
        log = out.parent / "strace"
        tracer = traps.tracer(log) if traps.can_trace() else ()
        run = extract(trap.videos, out, workers=workers, show=show, tracer=tracer)
    run.check(set(trap.expected))
    outcomes = {row["path"]: row["reason"] or row["status"] for row in run.rows}
    for path, expected in trap.expected.items():
        if not outcomes.get(path, "").startswith(expected):
            run.faults.append(f"{path!r}: {outcomes.get(path)!r}, not {expected!r}")
    after = traps.looks(folder, but=out.parent)
    run.faults += [f"changed: {path}" for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    run.faults += [f"a connection from {caller}" for caller in callers]
    calls = log.read_text(errors="backslashreplace").splitlines() if tracer else []
    run.faults += traps.trespasses(calls, trap, out=out)
    return run, {**summary(run), "system_calls_looked_at": len(calls)}


def bombed(folder: Path, *, workers: int, quick: bool = False, show: bool = True) -> tuple[Run, dict]:
    """Files that would take all memory or time."""
    expected = write_bombs(folder / "videos", quick=quick)
    options = ("--max-seconds", BOMB_SECONDS)
    run = extract(folder / "videos", folder / "out.h5", workers=workers, show=show, options=options)
    run.check(set(expected))
    outcomes = {row["path"]: row["reason"] or row["status"] for row in run.rows}
    for path, allowed in expected.items():
        if not outcomes.get(path, "").startswith(allowed):
            run.faults.append(f"{path!r}: {outcomes.get(path)!r}, not one of {allowed}")
    return run, {**summary(run), "outcomes": dict(sorted(outcomes.items()))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="mutated files")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in them")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["mutants", "attacks", "bombs"])
    parser.add_argument("--keep", type=Path, help="folder, not there yet, for the files and the stores")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    parts = {
        "mutants": partial(mutated, count=options.count, seed=options.seed),
        "attacks": attacked,
        "bombs": bombed,
    }
    figures, faults = {}, []
    try:
        for name, part in parts.items():
            if options.only in (None, name):
                (folder / name).mkdir(parents=True)
                run, figures[name] = part(folder / name, workers=options.workers)
                for fault in run.faults:
                    print(f"{name}: {fault}")
                faults += run.faults
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
