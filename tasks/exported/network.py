"""An exported model, run by onnxruntime, in the place of a FusionModel."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fusion.heads.head import Mask, StreamOutputs
from fusion.training.run import KEY, About
from preprocess.common.errors import UserError
from streams.batch import Batch

FUSION = "fusion"


def is_exported(path: Path) -> bool:
    """True for a folder that tasks.export wrote."""
    return (path / f"{FUSION}.onnx").is_file()


class ExportedNetwork:
    """The exported parts in a folder: encodes clips as their reader gives them, each stream where it is present.

    `about` describes the model; `whole_strides` are the streams whose clips begin at whole strides.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Raises UserError for a device that is no CPU, if onnxruntime is not installed, or if a file is missing,
        damaged, or of another version."""
        if device not in ("auto", "cpu"):
            raise UserError(f"{folder} is an exported model, which runs on the CPU: leave out --device {device}")
        self.folder = folder
        self.fusion = _session(folder / f"{FUSION}.onnx")
        said = self.fusion.get_modelmeta().custom_metadata_map
        try:
            self.about = About.from_json(said[KEY])
            self.streams: tuple[str, ...] = tuple(json.loads(said["streams"]))
            self.whole_strides: list[str] = json.loads(said["whole_strides"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} was not written by this version of tasks.export: export the run again"
            ) from error
        self.sessions = {name: _session(folder / f"{name}.onnx") for name in self.streams}

    def inputs(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """The clips as they were read: the files prepare them."""
        return batch.clips

    def encode(
        self, clips: dict[str, dict[str, Tensor]], present: Mask, *, rows: dict[str, Tensor] | None = None
    ) -> StreamOutputs:
        """{stream: {part: (B, ...)}}, {(B,)} → the output of each stream alone; zeros where it is absent."""
        found = {name: self._encode(name, clips[name], present[name]) for name in self.streams}

        def part(output: str) -> dict[str, Tensor]:
            return {name: outputs[output] for name, outputs in found.items()}

        return StreamOutputs(part("logits"), part("feature"), part("sequence"), part("tower"))

    def answer(self, streams: StreamOutputs, use: Mask) -> tuple[Tensor, Tensor]:
        """The fused feature and the logits from the streams in the mask `use`: → (B, F), (B, K)"""
        given = {"present": torch.stack([use[name] for name in self.streams], dim=1)}
        for name in self.streams:
            given |= {f"{name}.logits": streams.logits[name], f"{name}.feature": streams.features[name]}
            given |= {f"{name}.sequence": streams.sequences[name], f"{name}.tower": streams.towers[name]}
        found = _run(self.fusion, given)
        return found["fused"], found["logits"]

    def empty(self, name: str) -> dict[str, list[int]]:
        """The shapes of a stream's outputs for one clip from which it is absent: a time step."""
        outputs = {one.name: one.shape for one in self.sessions[name].get_outputs()}
        return {output: [size if isinstance(size, int) else 1 for size in shape] for output, shape in outputs.items()}

    def _encode(self, name: str, clips: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        session, count = self.sessions[name], len(present)
        if not present.any():
            return {output: torch.zeros(count, *shape[1:]) for output, shape in self.empty(name).items()}
        self._check(name, clips)
        found = _run(session, {part: clip[present] for part, clip in clips.items()})
        return {
            output: tensor.new_zeros(count, *tensor.shape[1:]).masked_scatter(_like(present, tensor), tensor)
            for output, tensor in found.items()
        }

    def _check(self, name: str, clips: dict[str, Tensor]) -> None:
        """Raises UserError for clips of other pictures than the exported files take."""
        for one in self.sessions[name].get_inputs():
            sizes = list(clips[one.name].shape)
            if any(isinstance(want, int) and want != size for want, size in zip(one.shape, sizes, strict=True)):
                raise UserError(
                    f"{self.folder}/{name}.onnx takes {one.name} of {one.shape}, not {sizes}: use videos, or a store "
                    "that was extracted with the settings of the training store"
                )


def _session(path: Path):
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path} needs onnxruntime: pip install 'tristream[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    if not path.is_file():
        raise UserError(f"{path} is missing: export the run again")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common base
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): export the run again") from error


def _run(session, given: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [one.name for one in session.get_outputs()]
    taken = {one.name: np.ascontiguousarray(given[one.name].detach().cpu().numpy()) for one in session.get_inputs()}
    return {name: torch.from_numpy(found) for name, found in zip(names, session.run(names, taken), strict=True)}


def _like(present: Tensor, tensor: Tensor) -> Tensor:
    """(B,) bool → a mask of all values of the present rows"""
    return present[(..., *[None] * (tensor.ndim - 1))].expand(-1, *tensor.shape[1:])
