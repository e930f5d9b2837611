"""Atomic, durable files: each appears whole or not at all, and stays after a power failure.

A file is written under a temporary name and synced, then it gets its name, then its folder is synced. Without the last
step the name may be gone after a power failure though the bytes are on the disk.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from preprocess.common.errors import UserError

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
ADDRESS = re.compile(r"(https?|ftps?|sftp|rtsps?|rtmps?|s3|gs)://?[^/]")  # pathlib makes one slash of two
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def local_path(path: str | os.PathLike) -> Path:
    """The path with `~` expanded.

    Raises UserError for an address on the network.
    """
    text = os.fspath(path)
    if ADDRESS.match(text) and not os.path.lexists(text):
        scheme, _, rest = text.partition(":")
        raise UserError(f"{scheme}://{rest.lstrip('/')} is an address: download it first, and give the file")
    return Path(os.path.expanduser(text))


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder durably; other processes may make it at the same moment."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    sync(path.parent)


def publish(written: Path, name: Path) -> None:
    """Give a written file its name, which stands for its content; a file that already has the name stays.

    `written` is gone afterwards.
    """
    sync(written)
    try:
        os.link(written, name)  # unlike a rename, this never replaces a file
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if not name.exists():
            os.rename(written, name)
    written.unlink(missing_ok=True)
    sync(name.parent)


def replace(written: Path, name: Path) -> None:
    """Give a written file a name that another file may have; the replacement is atomic."""
    sync(written)
    os.replace(written, name)
    sync(name.parent)


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then give it its name."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder and its content; other processes may be doing the same."""
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def only_one(file: Path, *, busy: str | None = None) -> Iterator[None]:
    """Lock `file`, which is created, for this process. The lock is released when the process ends, however it ends.

    If another process holds it, raises UserError with the text `busy`, or waits if that is None. On a network file
    system this works between machines if flock does.
    """
    handle = _hold(file, busy)
    try:
        yield
    finally:
        os.close(handle)


def _hold(file: Path, busy: str | None) -> int:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(handle, file):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise UserError(str(busy)) from error
        except OSError as error:
            os.close(handle)
            if error.errno in NO_LOCKS:
                raise UserError(f"{file.parent} is on a file system without locks (flock): use another") from error
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder has removed the file meanwhile: a lock on a file without a name keeps nobody out


def _still_named(handle: int, file: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == os.stat(file).st_ino
    except FileNotFoundError:
        return False
