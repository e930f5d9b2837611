"""The unit of work: one file in, one immutable piece with the content's name out.

Doing it twice, at the same time or after a crash, changes nothing: whoever comes second finds the piece there.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from preprocess.common.files import make_folder, publish, replace
from preprocess.common.stopwatch import Stopwatch
from preprocess.extraction.sources import Source
from preprocess.store.seal import Broken, digest, read_seal
from preprocess.video.decoder import Unusable
from preprocess.video.piece import extract_piece
from preprocess.video.settings import PieceSettings

Signature = tuple[int, int, int]  # bytes, times of the last change of content and of status in ns


@dataclass(frozen=True)
class Outcome:
    """What became of one video: all that crosses between processes and machines."""

    path: str
    signature: Signature | None  # what the file looked like; None if it could not be looked at
    content: str | None  # the file's digest; None if it could not be read
    reason: str | None = None  # why it cannot be used; None if it can
    took: float = 0.0  # seconds on the clock
    cpu: dict[str, float] = field(default_factory=dict)  # stage → CPU seconds

    @classmethod
    def from_json(cls, row: dict) -> "Outcome":
        """Raises KeyError or TypeError for what is no manifest."""
        return cls(**row | {"signature": row["signature"] and tuple(row["signature"])})


class Outcomes:
    """What is known of files, by path and by what they looked like then."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Signature | None], Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        self._found[outcome.path, outcome.signature] = outcome

    def of(self, source: Source) -> Outcome | None:
        """What is known of the file as it is now, or else of a file that could not be looked at."""
        return self._found.get((source.path, looked_at(source.file))) or self._found.get((source.path, None))


@dataclass(frozen=True)
class VideoTask:
    """Where and how pieces are made; called for a source in any process of any machine that sees the folder."""

    pieces: Path  # where the pieces appear
    scratch: Path  # for what is not whole yet, on the same file system
    settings: PieceSettings
    known: frozenset[str] = frozenset()  # contents that are in the store already, maybe under another path

    def __call__(self, source: Source, heartbeat: Callable[[float], None] | None = None) -> Outcome:
        """Make the piece of a source if it is not there.

        Raises OSError for what is not the video's fault: the disk is full, the folder is gone.
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
        with tempfile.NamedTemporaryFile(dir=self.scratch, prefix=f"{content}-", delete=False) as aside:
            written = Path(aside.name)
        try:
            extract_piece(file, written, content=content, settings=self.settings, watch=watch, heartbeat=heartbeat)
            with watch.stage("write"):
                if piece.exists():  # not whole, or another has just made the same
                    replace(written, piece)
                else:
                    publish(written, piece)
        except (Unusable, MemoryError, OSError):  # the decoder makes the input's own errors Unusable
            raise
        except Exception as error:  # whatever a hostile file makes of a decoder costs that file alone
            if "insufficient memory" in str(error).lower():  # OpenCV's way to say it
                raise MemoryError(str(error)) from error
            raise Unusable(f"corrupt: {type(error).__name__}: {error}") from error
        finally:
            written.unlink(missing_ok=True)


def signature(file: str) -> Signature:
    """What tells a changed file without reading it."""
    now = os.stat(file)
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns


def looked_at(file: str) -> Signature | None:
    """The signature of a file, or None if it cannot be looked at."""
    try:
        return signature(file)
    except OSError:
        return None


def piece_path(pieces: Path, content: str) -> Path:
    """The place of a piece: 256 folders, since some file systems are slow with a hundred thousand names in one."""
    return pieces / content[:2] / f"{content}.h5"


def is_whole(piece: Path) -> bool:
    """Whether a piece is there. A name appears when its bytes are on the disk, so its length is proof enough."""
    try:
        read_seal(piece)
    except (FileNotFoundError, Broken):
        return False
    return True
