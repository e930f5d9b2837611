"""Whether an exported model answers as the model that it was made of."""

from pathlib import Path

import torch

from fusion.heads.head import Parts, StreamOutputs
from streams.registry import streams_of, subsets
from tasks.exported.network import ExportedNetwork
from tasks.exported.parts import example_clips, own_length
from tasks.model import Model


def largest_difference(
    model: Model, folder: Path, *, batch: int = 2, frames: int | None = None, rows: int | None = None
) -> float:
    """Of any output of any stream, and of the fused answer for every subset, on random clips of this length.

    frames, rows: of a segment; those of the model's clips without.
    """
    network = ExportedNetwork(folder)
    clips = {}
    for name in model.streams:
        own_frames, own_rows = own_length(model, name)
        length = {"frames": frames or own_frames, "rows": rows or own_rows}
        clips[name] = example_clips(model, name, batch=batch, **length)
    kinds = streams_of(model.parameters)
    worst = 0.0
    with torch.no_grad():
        for subset in subsets(model.streams):
            present = {name: torch.full((batch,), name in subset) for name in model.streams}
            inputs = {name: kinds[name].prepare(clips[name], model.clip.of(name), training=False) for name in clips}
            ours, theirs = model.network.encode(inputs, present), network.encode(clips, present)
            worst = max(worst, *_differences(ours, theirs))
            answers = zip(model.network.answer(ours, present), network.answer(theirs, present), strict=True)
            worst = max(worst, *((one - other).abs().max().item() for one, other in answers))
    return worst


def _differences(ours: StreamOutputs, theirs: StreamOutputs) -> list[float]:
    pairs: list[tuple[Parts, Parts]] = list(zip(ours, theirs, strict=True))
    return [(one[name] - other[name]).abs().max().item() for one, other in pairs for name in one]
