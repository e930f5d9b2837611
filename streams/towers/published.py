"""Weights that are published for a tower, and their licence."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from torch import Tensor

from preprocess.common.errors import UserError

UNSTATED = "not stated with the file"


@dataclass(frozen=True)
class Published:
    """A file of published weights."""

    label: str  # for people
    path: Path
    tensors: dict[str, Tensor]
    licence: str = UNSTATED


def library(tower: str, module: str, extra: str):
    """The module of an optional library.

    Raises UserError if it is not installed.
    """
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # RuntimeError: its torchvision is made for another PyTorch
        name = module.partition(".")[0]
        why = str(error).partition("\n")[0]
        raise UserError(f"tower {tower} needs {name} ({why}): pip install 'tristream[{extra}]'") from error


def not_loaded(tower: str, what: str, error: Exception) -> UserError:
    """For a file that is neither on this machine nor can be downloaded, or that is damaged."""
    why = str(error).partition("\n")[0] or type(error).__name__
    return UserError(
        f"the {what} of {tower} could not be downloaded or read ({why}): on a machine without a network, copy them "
        f"there first, into the library's cache or a folder"
    )
