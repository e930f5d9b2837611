"""A run's files: written aside and renamed, so that each is whole or is not there."""

import json
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from preprocess.durable import write_aside
from preprocess.errors import UserError


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


def save_state(path: Path, **state: object) -> None:
    """What training needs to go on, random numbers included."""
    state["random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state_all()
    write_aside(path, lambda part: torch.save(state, part))


def load_state(path: Path, device: torch.device) -> dict:
    """What save_state wrote; sets the random numbers."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: the run ended within its first epoch; start it anew") from error
    except (RuntimeError, OSError, EOFError, UnpicklingError, ValueError, LookupError) as error:
        raise UserError(f"{path} is damaged: start the run anew under another name") from error
    torch.set_rng_state(state["random"].cpu())
    if "random_cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([numbers.cpu() for numbers in state["random_cuda"]])
    return state
