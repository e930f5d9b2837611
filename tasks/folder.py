"""The folder or file that a task writes to: looked at before the work, and made when there is something to write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from preprocess.common.errors import UserError


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """While a task works that writes to `path`; afterwards, also after an error, no new folder is left empty.

    Raises UserError, before anything is done, if nothing can be written there.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest} is no folder: name another one with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written in the folder {nearest}: name another one with --out")
    try:
        yield
    finally:
        for folder in new:
            with suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()


def check_output(path: Path, *, option: str) -> None:
    """Raises UserError, before anything is done, if the file that `option` names cannot be written."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}; make it, or name another file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: nothing can be written in the folder {path.parent}; name another file")
