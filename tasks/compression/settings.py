"""The command line of tasks.compress."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusion.training.settings import Machine

METHODS = ("quantise", "prune", "distil")


@dataclass(frozen=True)
class CompressSettings:
    """The command line of tasks.compress."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder to make: of quantise files for onnxruntime, of the others a run"""
    method: str = "quantise"
    """quantise: int8 instead of float32, nothing is trained;
    prune: the weakest channels of the towers go, the rest learns on, with the run as its teacher;
    distil: a narrower model learns from the beginning, with the run as its teacher"""
    data: Path | None = None
    """store to calibrate or train on; the default is the run's"""
    test: Path | None = None
    """store to judge on; the default is that of --data, of which only videos count that were not trained on"""
    channels: float = 0.5
    """prune and distil: share of the towers' channels that is left; half of them are a quarter of the arithmetic"""
    epochs: int | None = None
    """prune and distil: passes over the training videos; the default is as many as the run had, for prune half of it"""
    lr: float | None = None
    """prune and distil: highest learning rate; the default is the run's"""
    share: float = 0.5
    """prune and distil: weight of the run's answers beside the labels; 0 learns from the labels alone"""
    clips: int = 128
    """quantise: training clips that tell the range of every layer's values; a quarter as many others check it"""
    limit: float = 0.25
    """quantise: largest error of a stream's feature, as a share of how much it varies; a stream above it stays float"""
    views: int = 5
    """clips a video when judging"""
    turns: int = 15
    """clips of which the median time is taken"""
    weights: str = "best"
    """best (by validation) or last"""
    seed: int = 0
    """seed of the calibration clips, or of the training"""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)
