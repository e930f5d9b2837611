"""What runs an exported part: onnxruntime, a program of torch.export, or one that AOTInductor has compiled."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from preprocess.common.errors import UserError, one_line
from tasks.exported import gru, lstm  # noqa: F401  (programs of torch.export know their operators by name)

SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "aoti": ".aoti.pt2"}  # by --format
SIGNATURE = "signature"  # in the metadata of .pt2 files
SAID = ("tristream", "whole_strides", "classes", "streams", "fps", "clips", "store", "part", SIGNATURE)
Shapes = Mapping[str, list]  # name → sizes; None, or a name, where they vary


@dataclass(frozen=True)
class Runner:
    """A part that has been opened."""

    path: Path
    said: dict[str, str]  # its metadata
    inputs: Shapes
    outputs: Shapes
    call: Callable[[list[Tensor]], list[Tensor]]  # in the order of `inputs` and `outputs`

    def __call__(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.outputs, self.call([given[name] for name in self.inputs]), strict=True))


def file_of(folder: Path, part: str) -> Path | None:
    """The file of a part, of whatever kind; None if there is none."""
    return next((path for suffix in SUFFIXES.values() if (path := folder / f"{part}{suffix}").is_file()), None)


def open_part(folder: Path, part: str) -> Runner:
    """Raises UserError for a missing or damaged file, or if what runs it is not installed."""
    path = file_of(folder, part)
    if path is None:
        raise UserError(f"{folder} lacks the file of {part}: export the run again")
    if path.suffix == ".onnx":
        return _onnx(path)
    try:
        return _compiled(path) if path.name.endswith(SUFFIXES["aoti"]) else _program(path)
    except Exception as error:  # of many kinds: of zip files, of pickles, of loaders of libraries
        raise UserError(f"{path} is damaged, or of another PyTorch ({one_line(str(error))}): export again") from error


def _onnx(path: Path) -> Runner:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path} needs onnxruntime: pip install 'tristream[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common base
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): export the run again") from error
    inputs = {one.name: one.shape for one in session.get_inputs()}
    outputs = {one.name: one.shape for one in session.get_outputs()}

    def call(given: list[Tensor]) -> list[Tensor]:
        arrays = [np.ascontiguousarray(one.detach().cpu().numpy()) for one in given]
        found = session.run(list(outputs), dict(zip(inputs, arrays, strict=True)))
        return [torch.from_numpy(one) for one in found]

    return Runner(path, session.get_modelmeta().custom_metadata_map, inputs, outputs, call)


def _program(path: Path) -> Runner:
    said = dict.fromkeys(SAID, "")
    module = torch.export.load(path, extra_files=said).module()
    return _torch(path, {name: _text(value) for name, value in said.items()}, module)


def _compiled(path: Path) -> Runner:
    loaded = torch._inductor.aoti_load_package(str(path))
    return _torch(path, loaded.loader.get_metadata(), loaded)


def _torch(path: Path, said: dict[str, str], function: Callable) -> Runner:
    signature = json.loads(said[SIGNATURE])
    inputs, outputs = signature["inputs"], signature["outputs"]
    alone = [name for name in inputs if name == "present"]  # an argument of its own; the rest are one dict

    @torch.no_grad()
    def call(given: list[Tensor]) -> list[Tensor]:
        named = {name: one.contiguous() for name, one in zip(inputs, given, strict=True)}
        last = [named.pop(name) for name in alone]
        return list(function(named, *last))

    return Runner(path, said, inputs, outputs, call)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
