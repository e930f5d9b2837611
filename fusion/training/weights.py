"""Reading weights for --init: a run, a weights file, or published ones; each is a dictionary of tensors."""

import pickle
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from preprocess.common.errors import UserError, one_line
from streams.registry import STREAMS

Weights = dict[str, Tensor]
KINETICS, IMAGENET, OWN = "kinetics", "imagenet", "published"
PUBLISHED = (KINETICS, IMAGENET, OWN)  # what a stream may start from instead of a path
NESTED = ("model", "state_dict", "model_state_dict")  # keys under which training programs save the weights
WRAPPERS = ("module.", "model.", "_orig_mod.")  # prefixes of names by DataParallel, Lightning and torch.compile


class Source(NamedTuple):
    """One argument of --init."""

    stream: str | None  # None: every stream of this run that the file has
    text: str  # a path, or one of PUBLISHED

    def __str__(self) -> str:
        return f"{self.stream}={self.text}" if self.stream else self.text


def parse_init(texts: tuple[str, ...], streams: tuple[str, ...] | None) -> list[Source]:
    """``("runs/one", "flow=runs/two")`` → sources, in the same order; for these streams, or, with None, for any.

    Raises UserError for a stream that is unknown, is not trained, or is named twice.
    """
    sources = []
    for text in texts:
        stream, given, path = text.partition("=")
        if not given or (stream not in STREAMS and Path(text).exists()):
            sources.append(Source(None, text))
            continue
        if streams is not None and stream not in streams:
            what = "this run does not train" if stream in STREAMS else "unknown stream"
            raise UserError(f"--init {text}: {what} {stream}; its streams are {', '.join(streams)}")
        if any(source.stream == stream for source in sources):
            raise UserError(f"--init gives {stream} twice: name one file a stream")
        sources.append(Source(stream, path))
    return sources


def weights_file(option: str, given: str | Path) -> Path:
    """The file of weights that an option names: itself, or the best ones of a run's folder.

    Raises UserError if there is none.
    """
    path = Path(given)
    if path.is_dir():
        path = path / "best.safetensors"
        if not path.exists():
            raise UserError(f"{option} {given}: the folder has no {path.name}, so it is no run with a finished epoch")
    if not path.exists():
        raise UserError(f"{option} {given}: there is no such run or file; give a run's folder or a file of weights")
    return path


def read_weights(text: str) -> tuple[Path, Weights]:
    """The path of the weights file, and its tensors; no code in it is run.

    Raises UserError if it is missing, is damaged, or holds anything but tensors.
    """
    path = weights_file("--init", text)
    if path.suffix == ".safetensors":
        try:
            return path, _unwrapped(load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path} is damaged ({one_line(str(error))})") from error
    if path.suffix not in (".pt", ".pth"):
        raise UserError(f"--init {text}: weights are read from .safetensors, .pt and .pth")
    return path, _unwrapped(_tensors(path, _unpickle(path)))


def _unwrapped(weights: Weights) -> Weights:
    while wrapper := next((one for one in WRAPPERS if weights and all(name.startswith(one) for name in weights)), None):
        weights = {name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
    return weights


def encoders_in(weights: Weights) -> set[str]:
    """The streams whose encoders a run's weights hold; empty for the weights of a single encoder."""
    return {name.split(".")[1] for name in weights if name.startswith("encoders.")}


def _unpickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error covers PyTorch's warnings about the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds more than tensors, which could run code, and is not loaded: "
            f"save its state_dict() alone"
        ) from error
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path} is damaged, or is no file of torch.save ({type(error).__name__})") from error


def _tensors(path: Path, saved: object) -> Weights:
    """The dictionary of tensors in `saved`, itself or under one of the usual keys."""
    candidates = [saved, *(saved.get(name) for name in NESTED)] if isinstance(saved, dict) else []
    for one in candidates:
        if one and isinstance(one, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in one.items()):
            return one
    raise UserError(f"{path} holds no dictionary of tensors by name: save a model's state_dict()")
