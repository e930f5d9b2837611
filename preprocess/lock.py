"""One process at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preprocess.common.errors import UserError

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def only_one(file: Path, *, busy: str | None = None) -> Iterator[None]:
    """Hold `file`, which is made, for this process. It is let go of when the process ends, however it ends.

    If another process holds it, raises UserError saying `busy`, or waits where that is None. On a network file system
    this holds between machines as far as its flock does.
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
        os.close(handle)  # whoever held it has removed it meanwhile: a lock on no name keeps nobody out


def _still_named(handle: int, file: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == os.stat(file).st_ino
    except FileNotFoundError:
        return False
