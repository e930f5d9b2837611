"""A run's files: written aside and renamed, so that each is whole or is not there."""

import json
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from preprocess.common.errors import UserError
from preprocess.common.files import make_folder, write_aside


def write_json(path: Path, value: dict) -> None:
    write_aside(path, lambda part: part.write_text(json.dumps(value, indent=1, default=str) + "\n"))


def save_weights(path: Path, model: nn.Module) -> None:
    """All parameters and buffers, as safetensors: loading them runs no code."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    write_aside(path, lambda part: save_file(tensors, part))


def load_weights(path: Path, model: nn.Module) -> None:
    """Raises UserError if the file is not there, is damaged, or holds another model's weights."""
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: the run has not finished its first epoch") from error
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): try the run's other weights") from error
    except RuntimeError as error:
        raise UserError(f"{path} holds the weights of another model: {str(error).splitlines()[0]}") from error


class Checkpoints:
    """What a run needs to go on, saved now and then; the newest few are kept."""

    def __init__(self, run: Path, *, keep: int) -> None:
        self.folder = run / "checkpoints"
        self.keep = keep

    def files(self) -> list[Path]:
        """Those that are there, the newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, state: dict) -> None:
        """Save the state after `step` steps, and let the oldest go."""
        make_folder(self.folder)
        write_aside(self.folder / f"step-{step:09d}.pt", lambda part: torch.save(state, part))
        killed = self.folder.glob("*.part")  # what a process left that was killed while it wrote
        for path in [*self.files()[self.keep :], *killed]:
            path.unlink()

    def load(self) -> dict:
        """The newest state that is whole, in main memory; a line tells of those that are not.

        Raises UserError if there is none.
        """
        files = self.files()
        if not files:
            raise UserError(f"{self.folder} holds no checkpoint yet: start the run again without --resume")
        for path in files:
            try:
                return _load(path)
            except Exception as error:  # there is nothing that a damaged file may not raise
                print(f"note: {path} is damaged ({type(error).__name__}) and left out")
        raise UserError(f"no checkpoint in {self.folder} can be read: start the run anew under another name")


def _load(path: Path) -> dict:
    with zipfile.ZipFile(path) as file:  # PyTorch writes the sums of its records, but does not look at them
        if file.testzip() is not None:
            raise ValueError("a record has another sum")
    return torch.load(path, map_location="cpu", weights_only=True)
