"""The state of an unfinished extraction: the folder OUT.partial, in which any number of processes may work.

    job.json            the version and parameters that all pieces share, and whether a store is to be replaced
    journal/*.jsonl     an outcome a line, one file for each part of the job
    pieces/ab/*.h5      finished videos, named by content
    scratch/<part>/     unfinished files; emptied when the part starts
    lock-<part>, lock   held by the process that works on a part; by the one that joins the pieces

Only the pieces count. A journal saves reading the videos again: losing its last lines costs nothing but time.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, only_one, remove_folder, replace, sync
from preprocess.extraction.task import Outcome, Outcomes, piece_path
from preprocess.store import Store
from preprocess.store.format import VERSION


class PartialStore:
    """The folder beside a store that is being written."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(out.name + ".partial")
        self.pieces = self.folder / "pieces"
        self._journal = self.folder / "journal"
        self._job = self.folder / "job.json"
        self._held: Path | None = None  # the lock that this process holds
        self._busy = f"another extraction is writing {out}: wait for it, or give another name"

    def exists(self) -> bool:
        """True if an extraction was begun and not finished."""
        return self._job.exists()

    def job_time(self) -> int:
        """The time at which it was begun, in ns."""
        return self._job.stat().st_mtime_ns

    def check(self, parameters: dict, *, overwrite: bool) -> None:
        """Check that this run can continue from the existing files; with `overwrite`, remove those that do not fit.

        Raises UserError if a store or an interrupted extraction has other parameters, or another run is at work.
        """
        if self.out.exists() and not overwrite:
            try:
                there = Store(self.out).parameters
            except UserError as error:
                raise UserError(f"{error} (give another name, or --overwrite to replace it)") from error
            if there != parameters:
                raise UserError(
                    f"{self.out} was extracted with other settings ({differences(there, parameters)}): "
                    f"give the same ones, another name, or --overwrite to replace it"
                )
        if not self.exists():
            return
        job = json.loads(self._job.read_text())
        if job.get("version") != VERSION and not overwrite:
            raise UserError(
                f"an interrupted extraction of {self.out} was begun with another release of this program: end it with "
                f"that one, or give --overwrite to start over"
            )
        if job["parameters"] != parameters and not overwrite:
            raise UserError(
                f"an interrupted extraction of {self.out} has other settings "
                f"({differences(job['parameters'], parameters)}): give the same ones to go on, or --overwrite"
            )
        same = job.get("version") == VERSION and job["parameters"] == parameters
        if (not same or (overwrite and not job["overwrite"])) and not self.discard():
            raise UserError(self._busy)

    @contextmanager
    def begin(self, part: str, *, parameters: dict, overwrite: bool) -> Iterator[None]:
        """Lock one part of the job for this process.

        Raises UserError if another process works on it.
        """
        make_folder(self.folder)
        lock = self.folder / f"lock-{part}"
        with only_one(lock, busy=self._busy):
            self._held = lock
            try:
                for folder in (self.pieces, self._journal, self.folder / "scratch"):
                    make_folder(folder)
                remove_folder(self.scratch(part))
                make_folder(self.scratch(part))
                if not self.exists():
                    written = self.scratch(part) / "job.json"  # other parts may be writing the same file
                    job = {"version": VERSION, "parameters": parameters, "overwrite": overwrite}
                    written.write_text(json.dumps(job) + "\n")
                    replace(written, self._job)
                yield
            finally:
                self.tidy()
                self._held = None

    def scratch(self, part: str) -> Path:
        """The folder for a part's unfinished files."""
        return self.folder / "scratch" / part

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Lock the joining of the pieces for this process; waits for any other."""
        make_folder(self.folder)
        with only_one(self.folder / "lock"):
            yield

    @contextmanager
    def journal(self, part: str) -> Iterator["Journal"]:
        """The part's journal, open for appending."""
        file = self._journal / f"{part}.jsonl"
        with open(file, "ab", buffering=0) as handle:
            sync(file.parent)
            if handle.tell():
                handle.write(b"\n")  # ends a line that a killed run left half-written
            yield Journal(handle)

    def outcomes(self) -> "Outcomes":
        """The outcomes of all parts so far."""
        found = Outcomes()
        for file in sorted(self._journal.glob("*.jsonl")) if self._journal.is_dir() else []:
            for line in file.read_bytes().split(b"\n"):
                try:
                    found.add(Outcome.from_json(json.loads(line)))
                except (ValueError, TypeError, KeyError):  # a line that was being written when the power failed
                    continue
        return found

    def piece(self, content: str) -> Path:
        """The path of the piece with that content, made or not."""
        return piece_path(self.pieces, content)

    def discard(self) -> bool:
        """Remove the folder; False if another part is still being worked on."""
        with ExitStack() as held:
            for lock in self.folder.glob("lock-*"):
                if lock == self._held:
                    continue
                try:
                    held.enter_context(only_one(lock, busy=self._busy))
                except UserError:
                    return False
            remove_folder(self.folder)
        return True

    def tidy(self) -> None:
        """Remove the folder if it holds nothing that another run could use."""
        journals = self._journal.glob("*.jsonl")
        used = any(journal.stat().st_size for journal in journals) or any(self.pieces.glob("*/*.h5"))
        if self.folder.is_dir() and not used:
            self.discard()


def differences(there: dict, wanted: dict, *, within: str = "") -> str:
    """The differences between two sets of parameters: ``short_side 128, now 64``."""
    parts = []
    for name in sorted({*there, *wanted}):
        a, b = there.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            parts.append(differences(a, b, within=f"{name} "))
        elif a != b:
            parts.append(f"{within}{name} {a}, now {b}")
    return "; ".join(part for part in parts if part)


class Journal:
    """A file of outcomes, appended line by line."""

    def __init__(self, handle) -> None:
        self._handle = handle

    def add(self, outcome: Outcome) -> None:
        """Append an outcome durably."""
        self._handle.write(json.dumps(asdict(outcome)).encode() + b"\n")
        os.fsync(self._handle.fileno())
