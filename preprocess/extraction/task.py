"""The unit of work: one file in, one immutable piece out, named by the file's content.

Doing it twice, at the same time or after a crash, changes nothing: the second task finds the piece there.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import monotonic

from preprocess.common.files import make_folder, publish, replace
from preprocess.common.stopwatch import Stopwatch
from preprocess.extraction.sources import Source
from preprocess.store.seal import Broken, digest, read_seal
from preprocess.video.decoder import Unusable
from preprocess.video.piece import extract_piece
from preprocess.video.settings import PieceSettings

Signature = tuple[int, int, int]  # bytes; times in ns of the last change of content and of status


@dataclass(frozen=True)
class Outcome:
    """The outcome of one video: all that is sent between processes and machines."""

    path: str
    signature: Signature | None  # None if the file could not be accessed
    content: str | None  # digest of the file; None if it could not be read
    reason: str | None = None  # the reason why it cannot be used; None if it can
    took: float = 0.0  # seconds of wall time
    cpu: dict[str, float] = field(default_factory=dict)  # stage → CPU seconds

    @classmethod
    def from_json(cls, row: dict) -> "Outcome":
        """Raises KeyError or TypeError if `row` is not an outcome."""
        return cls(**row | {"signature": row["signature"] and tuple(row["signature"])})


class Outcomes:
    """Saved outcomes of files, by path and signature."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Signature | None], Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        self._found[outcome.path, outcome.signature] = outcome

    def of(self, source: Source) -> Outcome | None:
        """The saved outcome for this file, if the file has not changed or could not be accessed."""
        return self._found.get((source.path, looked_at(source.file))) or self._found.get((source.path, None))


@dataclass(frozen=True)
class VideoTask:
    """Makes pieces: called for a source in any process of any machine that sees the folder."""

    pieces: Path  # the folder of the pieces
    scratch: Path  # for unfinished files, on the same file system
    settings: PieceSettings
    known: frozenset[str] = frozenset()  # contents already in the store, maybe under another path

    def __call__(self, source: Source, heartbeat: Callable[[float], None] | None = None) -> Outcome:
        """Make the piece of a source if it does not exist.

        Raises OSError for what is not the video's fault (the disk is full, the folder is gone).
        """
        begun = monotonic()
        watch = Stopwatch()
        looks = content = reason = None
        try:
            if source.refused:
                raise Unusable(source.refused)
            looks, content = self._look(source.file, watch, heartbeat)
            self._make(source.file, content, watch, heartbeat)
            if signature(source.file) != looks:
                looks = content = None
                raise Unusable("unreadable: it changed while it was read")
        except Unusable as error:
            reason = str(error)
        return Outcome(source.path, looks, content, reason, monotonic() - begun, dict(watch.seconds))

    def _look(self, file: str, watch: Stopwatch, heartbeat: Callable[[float], None] | None) -> tuple[Signature, str]:
        try:
            if not stat.S_ISREG(os.stat(file).st_mode):  # opening a pipe would wait for ever
                raise Unusable("unreadable: it is no regular file")
            looks = signature(file)
            with watch.stage("digest"):
                return looks, digest(file, each=heartbeat and (lambda: heartbeat(0.0)))
        except OSError as error:
            raise Unusable(f"unreadable: {error.strerror or error}") from error

    def _make(self, file: str, content: str, watch: Stopwatch, heartbeat: Callable[[float], None] | None) -> None:
        piece = piece_path(self.pieces, content)
        if content in self.known or is_whole(piece):
            return
        make_folder(piece.parent)
        written = self.scratch / f"{content}-{token_hex(8)}"  # another process may be at the same video
        try:
            extract_piece(file, written, content=content, settings=self.settings, watch=watch, heartbeat=heartbeat)
            with watch.stage("write"):
                if piece.exists():  # damaged, or just made by another process
                    replace(written, piece)
                else:
                    publish(written, piece)
        except (Unusable, MemoryError, OSError):  # the decoder turns errors of the input into Unusable
            raise
        except Exception as error:  # a hostile file may make a decoder raise anything: only that file fails
            if "insufficient memory" in str(error).lower():  # OpenCV's message for it
                raise MemoryError(str(error)) from error
            raise Unusable(f"corrupt: {type(error).__name__}: {error}") from error
        finally:
            written.unlink(missing_ok=True)


def signature(file: str) -> Signature:
    """Size and times of a file: they show a change without reading it."""
    now = os.stat(file)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns


def looked_at(file: str) -> Signature | None:
    """The signature of a file, or None if it cannot be accessed."""
    try:
        return signature(file)
    except OSError:
        return None


def piece_path(pieces: Path, content: str) -> Path:
    """The path of a piece, in one of 256 folders: some file systems are slow with 100,000 names in one folder."""
    return pieces / content[:2] / f"{content}.h5"


def is_whole(piece: Path) -> bool:
    """True if a piece is complete: a file gets its name after its bytes are synced, so the length is proof enough."""
    try:
        read_seal(piece)
    except (FileNotFoundError, Broken):
        return False
    return True
