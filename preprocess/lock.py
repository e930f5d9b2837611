"""One process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preprocess.errors import UserError


@contextmanager
def only_one(file: Path, *, busy: str) -> Iterator[None]:
    """Hold `file`, which is made, for this process. It is let go of when the process ends, however it ends.

    Raises UserError, saying `busy`, if another process holds it.
    """
    with open(file, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(busy) from error
        yield
