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
        raise UserError(
            f"tower {tower} needs {name} ({first_line(error)}): pip install 'tristream[{extra}]'"
        ) from error


def first_line(error: Exception) -> str:
    """Of what a library says, the first line; or the error's kind if it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def not_loaded(tower: str, what: str, error: Exception) -> UserError:
    """For a file that is neither on this machine nor can be downloaded, or that is damaged."""
    return UserError(
        f"the {what} of {tower} could not be downloaded or read ({first_line(error)}): on a machine without a "
        f"network, copy them there first, into the library's cache or a folder"
    )
