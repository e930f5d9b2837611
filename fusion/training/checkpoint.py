"""A run's checkpoints: written aside and renamed, so that each is complete or absent."""

import zipfile
from pathlib import Path

import torch

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, write_aside


class Checkpoints:
    """Checkpoints of a run, to resume from; the newest few are kept."""

    def __init__(self, run: Path, *, keep: int) -> None:
        self.folder = run / "checkpoints"
        self.keep = keep

    def files(self) -> list[Path]:
        """The existing checkpoints, the newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, state: dict) -> None:
        """Save the state after `step` steps, and remove the oldest."""
        make_folder(self.folder)
        write_aside(self.folder / f"step-{step:09d}.pt", lambda part: torch.save(state, part))
        killed = self.folder.glob("*.part")  # left by a process that was killed while writing
        for path in [*self.files()[self.keep :], *killed]:
            path.unlink()

    def load(self) -> dict:
        """The newest complete state, in main memory; prints a line for each damaged one.

        Raises UserError if there is none.
        """
        files = self.files()
        if not files:
            raise UserError(f"{self.folder} holds no checkpoint yet: start the run again without --resume")
        for path in files:
            try:
                return _load(path)
            except Exception as error:  # a damaged file may raise anything
                print(f"note: {path} is damaged ({type(error).__name__}) and left out")
        raise UserError(f"no checkpoint in {self.folder} can be read: start the run anew under another name")


def _load(path: Path) -> dict:
    with zipfile.ZipFile(path) as file:  # PyTorch writes checksums of its records, but does not check them
        if file.testzip() is not None:
            raise ValueError("a record has another sum")
    return torch.load(path, map_location="cpu", weights_only=True)
