"""torch.compile, where it is worthwhile."""

import shutil

import torch

from fusion.model import FusionModel


def compile_encoders(model: FusionModel, device: torch.device, wanted: bool | None) -> str:
    """Compile the encoders in place; return a sentence about it.

    By default only on a GPU. The towers are compiled, and the LSTMs run as cuDNN's or oneDNN's own kernel: PyTorch can
    trace them step by step into the same graph, but the first step then takes six times as long, and the others are no
    faster (benchmarks/train_step.py). A stream's number of rows differs between batches, so that axis is dynamic.
    """
    if not (device.type == "cuda" if wanted is None else wanted):
        return ""
    if not any(map(shutil.which, ("gcc", "cc", "g++", "clang"))):
        return ", not compiled: there is no C compiler"
    try:
        import triton  # noqa: F401
    except ImportError:
        if device.type == "cuda":
            return ", not compiled: there is no Triton"
    for encoder in model.encoders.values():
        encoder.tower.compile(dynamic=None)
    return ", compiled"
