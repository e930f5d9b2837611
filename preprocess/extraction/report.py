"""The result of an extraction: a report beside the store, and a few lines for the terminal.

The report also holds each file's size and times, so that the next run need not read files that have not changed.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from preprocess.common.console import human_seconds, plural, print_table
from preprocess.common.files import write_aside
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, Outcomes
from preprocess.store.index import Facts, category

POINTS = 200  # of the curve of throughput, at most


@dataclass
class Progress:
    """The progress of a run: videos done over time, and their CPU time."""

    begun: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    curve: list[tuple[float, int]] = field(default_factory=list)  # seconds since the start, videos done by then
    cpu: Counter[str] = field(default_factory=Counter)  # stage → CPU seconds of all processes
    done: int = 0
    _start: float = field(default_factory=monotonic)

    @property
    def took(self) -> float:
        return monotonic() - self._start

    def add(self, outcome: Outcome) -> None:
        """Count a video."""
        self.done += 1
        self.cpu.update(outcome.cpu)
        self.curve.append((round(self.took, 2), self.done))
        if len(self.curve) > 2 * POINTS:
            del self.curve[-2::-2]  # every second point, but not the last


def report_path(out: Path) -> Path:
    """The place of a store's report: out.h5 → out.report.json."""
    return out.with_name(out.stem + ".report.json")


def row(outcome: Outcome, facts: Facts | None) -> dict:
    """The report's row for one video; `facts` if it is in the store."""
    status = "rejected" if facts is None else "truncated" if facts.truncated else "used"
    row = {"path": outcome.path, "status": status, "reason": outcome.reason}
    if facts is not None:
        row |= {"seconds": facts.seconds, "expected": facts.expected, "missing": facts.why, "notes": facts.notes}
    return row | {name: value for name, value in asdict(outcome).items() if name not in row}


def write_report(out: Path, rows: Iterable[dict], *, progress: Progress, duplicates: list, **facts: object) -> None:
    """Write the report beside the store, a line a video."""
    status, reasons, lines = Counter(), Counter(), []
    for row in rows:
        status[row["status"]] += 1
        reasons.update([category(row["reason"])] if row["reason"] else [])
        lines.append(f"  {json.dumps(row)}")
    head = {
        "store": out.name,
        "begun": progress.begun,
        "took": round(progress.took, 2),
        "videos_done": progress.done,
        "status": status,
        "reasons": reasons,
        "cpu_seconds": {stage: round(seconds, 3) for stage, seconds in progress.cpu.most_common()},
        "throughput": progress.curve,
        "duplicates": duplicates,
        **facts,
    }
    videos = ",\n".join(lines)
    facts_lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    text = "{\n" + ",\n".join([*facts_lines, f' "videos": [\n{videos}\n ]']) + "\n}\n"
    write_aside(report_path(out), lambda part: part.write_text(text))


def remembered(out: Path) -> Outcomes:
    """The outcomes in an earlier run's report; none if there is no readable report."""
    found = Outcomes()
    try:
        for row in json.loads(report_path(out).read_text())["videos"]:
            found.add(Outcome.from_json({name: row[name] for name in Outcome.__dataclass_fields__}))
    except (OSError, ValueError, TypeError, KeyError):
        return Outcomes()
    return found


def find_duplicates(sources: Sequence[Source], outcomes: dict[str, Outcome]) -> list[list[Source]]:
    """Groups of usable sources whose files are identical."""
    same: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        outcome = outcomes[source.path]
        if outcome.content is not None and outcome.reason is None:
            same[outcome.content].append(source)
    return [group for group in same.values() if len(group) > 1]


def duplicate_notes(duplicates: Sequence[Sequence[Source]]) -> list[str]:
    """Notes about identical files, and warnings where their labels, groups or splits contradict each other."""
    notes = []
    if duplicates:
        first = duplicates[0]
        count = sum(len(group) - 1 for group in duplicates)
        notes.append(f"{plural(count, 'file')} repeat another's content, the first: {first[1].path} = {first[0].path}")
    for name, what in (("label", "labels"), ("split", "splits")):
        torn = [group for group in duplicates if len({getattr(source, name) for source in group}) > 1]
        if torn:
            a, b = _two_that_differ(torn[0], name)
            notes.append(
                f"warning: {plural(len(torn), 'content')} under two {what}, the first: {a.path} is "
                f"{getattr(a, name)}, {b.path} is {getattr(b, name)}, and the files are equal"
            )
    return notes


def print_stages(cpu: Counter[str]) -> None:
    """Print the share of each stage in the CPU seconds of all processes."""
    total = cpu.total() or 1.0
    rows = [[name, f"{seconds:.1f} s", f"{seconds / total:.1%}"] for name, seconds in cpu.most_common()]
    print_table(["stage", "CPU time", "share"], rows)


def print_run(progress: Progress, kept: int) -> None:
    """Print one line: the videos that this run did, and its speed."""
    if not progress.done:
        print(f"nothing to do: {plural(kept, 'file')} as before")
        return
    took = progress.took
    parts = [f"{plural(progress.done, 'file')} in {human_seconds(took)}, {progress.done / took:.1f} a second"]
    if kept:
        parts.append(f"{kept} kept from before")
    if progress.cpu:
        total = progress.cpu.total()
        stages = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in progress.cpu.most_common(3))
        parts.append(f"{human_seconds(total)} of CPU: {stages}")
    print("; ".join(parts))


def _two_that_differ(group: Sequence[Source], name: str) -> tuple[Source, Source]:
    first = group[0]
    return first, next(source for source in group if getattr(source, name) != getattr(first, name))
