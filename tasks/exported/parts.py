"""The parts of a model that are exported: one a stream, and one for fusion.

Apart, since a stream that a video lacks then costs nothing, and another subset of the streams costs only fusion.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import Dim

from fusion.heads.head import StreamOutputs
from fusion.model import FusionModel
from preprocess.store.format import MEL_RATE
from streams.registry import streams_of
from streams.spec import Stream
from tasks.exported.gru import replace_grus
from tasks.exported.lstm import replace_lstms
from tasks.exported.pooling import pad_pools
from tasks.model import Model

FUSION = "fusion"  # its part's name
OUTPUTS = ("tower", "sequence", "feature", "logits")  # of a stream's part
ANSWER = ("fused", "logits", "probabilities")  # of fusion's
FIELDS = {"logits": "logits", "feature": "features", "sequence": "sequences", "tower": "towers"}  # → StreamOutputs
BATCH, STEPS = 3, 20  # of an example: clips; pictures of each segment. After pooling none may be 1, or equal another
ROWS = 224  # of log-mel, likewise
SHRINKS, LEAST_ROWS = 4, 65  # a .pt2 file takes more pictures than a time step has, and so many rows. ONNX takes fewer


class StreamPart(nn.Module):
    """A stream's clips as its reader gives them → what its encoder makes of them, all rows present."""

    def __init__(self, network: FusionModel, name: str, *, model: Model) -> None:
        super().__init__()
        self.encoder, self.auxiliary = network.encoders[name], network.auxiliary[name]
        self.kind, self.clip = streams_of(model.parameters)[name], model.clip.of(name)

    def forward(self, clips: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """{part: (B, ...)} → OUTPUTS: (B, T', C), (B, T', D), (B, D), (B, K)"""
        encoded = self.encoder(self.kind.prepare(clips, self.clip, training=False))
        return *encoded, self.auxiliary(encoded.feature)


class FusionPart(nn.Module):
    """The outputs of all streams' parts, and which are present → the fused answer."""

    def __init__(self, network: FusionModel) -> None:
        super().__init__()
        self.head, self.streams = network.head, tuple(network.encoders)

    def forward(self, outputs: dict[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """{"rgb.logits": (B, K), …}, (B, S) bool → ANSWER: (B, F), (B, K), (B, K), zeros where nothing is present"""
        there = dict(zip(self.streams, present.unbind(1), strict=True))
        parts = {f: {name: outputs[f"{name}.{output}"] for name in self.streams} for output, f in FIELDS.items()}
        fused = self.head.features(StreamOutputs(**parts), there)
        logits = self.head.classify(fused)
        return fused, logits, logits.softmax(dim=1) * present.any(dim=1, keepdim=True)


@dataclass(frozen=True)
class Part:
    """A module to export, with an example of its arguments and the sizes that may vary."""

    module: nn.Module
    example: tuple  # its arguments: tensors, and dicts of them
    dynamic: tuple  # the same, with {axis: Dim} for each tensor
    inputs: list[str]  # names of the tensors, in order
    outputs: tuple[str, ...]


def parts_of(model: Model, *, guards: bool = False) -> dict[str, Part]:
    """A model's parts by their names, with weights of their own.

    guards: for programs that hold to what the export assumed: streams whose clips are too short for sizes that vary, so
    that one time step is left, take clips of that length alone.
    """
    network = copy.deepcopy(model.network).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        parts = {name: _stream_part(network, name, model) for name in model.streams}
        found = {name: part.module(*part.example) for name, part in parts.items()}
        if guards:
            parts = {name: _fixed(part, name, model) for name, part in parts.items()}
    replace_lstms(network)
    replace_grus(network)
    pad_pools(network)
    return parts | {FUSION: _fusion_part(network, found)}


def example_clips(model: Model, name: str, *, batch: int, frames: int, rows: int) -> dict[str, Tensor]:
    """Random clips of a stream: `frames` pictures or rows of features, or `rows` of log-mel, of each segment.

    They are as its reader makes them; a clip's map is that of a square picture.
    """
    kind, clip = streams_of(model.parameters)[name], model.clip.of(name)
    random = torch.Generator().manual_seed(0)
    clips = {}
    for part, (shape, kept) in kind.shapes(model.parameters, clip).items():
        sizes = list(shape)
        if (axis := time_axis(kind, part, model)) is not None:
            sizes[axis] = clip.segments * (rows if part == "mel" else frames)
        if part == "map":
            clips[part] = torch.from_numpy(square_map(model, name)).repeat(batch, 1, 1)
        elif kept.__name__ == "uint8":
            clips[part] = torch.randint(0, 256, (batch, *sizes), dtype=torch.uint8, generator=random)
        else:
            clips[part] = torch.randn(batch, *sizes, generator=random) * (4 if part == "mel" else 1)
    return clips


def square_map(model: Model, name: str):
    """(2, 3) float32: from pixels of a square picture of the store's size to those of the crop that the tower sees."""
    from streams.geometry import centre_crop

    side, clip = model.parameters["short_side"], model.clip
    own = model.clip.of(name)
    return centre_crop(side, side, clip.size, share=clip.judged_crop).resized(own.size / clip.size).map


def time_axis(kind: Stream, part: str, model: Model) -> int | None:
    """The axis of a clip's array that is time, not counting the batch; None of a map."""
    return {"map": None, "mel": 1}.get(part, 0)


def _stream_part(network: FusionModel, name: str, model: Model) -> Part:
    kind, segments = streams_of(model.parameters)[name], model.clip.segments
    clips = example_clips(model, name, batch=BATCH, frames=STEPS, rows=ROWS)
    least = LEAST_ROWS if "mel" in clips else _least(network.encoders[name].tower)
    batch, steps = Dim("batch", min=1), Dim("steps", min=least)
    dynamic = {}
    for part in clips:
        axis = time_axis(kind, part, model)
        dynamic[part] = {0: batch} | ({} if axis is None else {axis + 1: segments * steps if segments > 1 else steps})
    return Part(StreamPart(network, name, model=model), (clips,), (dynamic,), list(clips), OUTPUTS)


def _fixed(part: Part, name: str, model: Model) -> Part:
    """The same for clips of the model's own length alone, if that is less than a varying one may be."""
    (dynamic,), (frames, rows) = part.dynamic, own_length(model, name)
    if rows >= LEAST_ROWS if "mel" in dynamic else frames >= _least(part.module.encoder.tower):
        return part
    example = example_clips(model, name, batch=BATCH, frames=frames, rows=rows)
    return replace(part, example=(example,), dynamic=({one: {0: axes[0]} for one, axes in dynamic.items()},))


def own_length(model: Model, name: str) -> tuple[int, int]:
    """The pictures, and the rows of log-mel, of a segment of a stream's clips."""
    own = model.clip.of(name)
    return own.frames, round(own.audio_seconds * MEL_RATE)


def _least(tower: nn.Module) -> int:
    """Pictures of which more than one time step is left, since one counts as fixed."""
    return 1 + getattr(tower, "shrinks", SHRINKS)


def _fusion_part(network: FusionModel, found: dict[str, tuple[Tensor, ...]]) -> Part:
    batch, example, dynamic = Dim("batch", min=1), {}, {}
    for name, outputs in found.items():
        steps = Dim(f"{name}_steps", min=1)
        for output, tensor in zip(OUTPUTS, outputs, strict=True):
            example[f"{name}.{output}"] = tensor
            dynamic[f"{name}.{output}"] = {0: batch} | ({1: steps} if tensor.ndim == 3 else {})
    present = torch.ones(BATCH, len(found), dtype=torch.bool)
    inputs = [*example, "present"]
    return Part(FusionPart(network), (example, present), (dynamic, {0: batch}), inputs, ANSWER)
