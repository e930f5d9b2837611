"""An exported model in the place of a FusionModel."""

import json
from pathlib import Path

import torch
from torch import Tensor

from fusion.heads.head import Mask, StreamOutputs
from fusion.training.run import KEY, About
from preprocess.common.errors import UserError
from streams.batch import Batch
from tasks.exported.runners import file_of, open_part

FUSION = "fusion"


def is_exported(path: Path) -> bool:
    """True for a folder that tasks.export wrote."""
    return file_of(path, FUSION) is not None


class ExportedNetwork:
    """The exported parts in a folder: encodes clips as their reader gives them, each stream where it is present.

    `about` describes the model; `whole_strides` are the streams whose clips begin at whole strides.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Raises UserError for a device that is no CPU, if what runs the files is not installed, or if a file is
        missing, damaged, or of another version."""
        if device not in ("auto", "cpu"):
            raise UserError(f"{folder} is an exported model, which runs on the CPU: leave out --device {device}")
        self.folder = folder
        self.fusion = open_part(folder, FUSION)
        said = self.fusion.said
        try:
            self.about = About.from_json(said[KEY])
            self.streams: tuple[str, ...] = tuple(json.loads(said["streams"]))
            self.whole_strides: list[str] = json.loads(said["whole_strides"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder} was not written by this version of tasks.export: export the run again"
            ) from error
        self.parts = {name: open_part(folder, name) for name in self.streams}

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
        found = self.fusion(given)
        return found["fused"], found["logits"]

    def empty(self, name: str) -> dict[str, list[int]]:
        """The shapes of a stream's outputs for one clip from which it is absent: a time step."""
        outputs = self.parts[name].outputs
        return {output: [size if isinstance(size, int) else 1 for size in shape] for output, shape in outputs.items()}

    def _encode(self, name: str, clips: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        count = len(present)
        if not present.any():
            return {output: torch.zeros(count, *shape[1:]) for output, shape in self.empty(name).items()}
        self._check(name, clips)
        found = self.parts[name]({part: clip[present] for part, clip in clips.items()})
        return {
            output: tensor.new_zeros(count, *tensor.shape[1:]).masked_scatter(_like(present, tensor), tensor)
            for output, tensor in found.items()
        }

    def _check(self, name: str, clips: dict[str, Tensor]) -> None:
        """Raises UserError for clips of other pictures than the exported files take."""
        part = self.parts[name]
        for one, shape in part.inputs.items():
            sizes = list(clips[one].shape)
            if any(isinstance(want, int) and want != size for want, size in zip(shape, sizes, strict=True)):
                raise UserError(
                    f"{part.path} takes {one} of {shape}, not {sizes}: use videos, or a store that was extracted with "
                    "the settings of the training store"
                )


def _like(present: Tensor, tensor: Tensor) -> Tensor:
    """(B,) bool → a mask of all values of the present rows"""
    return present[(..., *[None] * (tensor.ndim - 1))].expand(-1, *tensor.shape[1:])
