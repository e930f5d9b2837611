"""The command lines of tasks.probe, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

Features = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES")]
Labels = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LABELS")]
Trained = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PROBE")]


@dataclass(frozen=True)
class TrainProbe:
    """Learn from features and labels, judged by leaving whole groups out; then keep what all of them teach."""

    features: Features
    """.npz file of features, from tasks.voice_features, numpy.savez or tasks.features, whose .h5 does too"""
    labels: Labels
    """CSV file: columns name, the targets and, if you like, group"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """file for the probe"""
    targets: tuple[str, ...] = ()
    """columns to learn: one of classes, or several of numbers; the default is label, or else all columns of numbers"""
    streams: tuple[str, ...] = ()
    """streams of the features to take; the default is all"""
    names: str | None = None
    """array with the names; the default is the only one of texts in which none is twice"""
    group: str = "group"
    """column of the labels, or array of the features, that says which samples belong together: speakers, recordings"""
    standardise: bool = False
    """each feature less its mean over the sample's group, divided by its deviation there: of speakers, whose voices
    differ more than their emotions do. It needs many samples of each, and no labels"""
    penalties: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """weights of the squared coefficients in the loss, among which groups left out choose"""


@dataclass(frozen=True)
class PredictProbe:
    """Answer about samples, as a table."""

    probe: Trained
    """file of a probe"""
    features: Features
    """their features"""
    csv: Path | None = None
    """write the table to this file; the default is to print it"""
    streams: tuple[str, ...] = ()
    """answer as if only these streams were there"""
    names: str | None = None
    """array with the names"""
    group: str | None = None
    """array that says which samples belong together, for a probe of standardised features"""


@dataclass(frozen=True)
class EvaluateProbe:
    """Judge on samples that it has not learned from, with each subset of the streams."""

    probe: Trained
    """file of a probe"""
    features: Features
    """their features"""
    labels: Labels
    """CSV file: columns name, the targets and, if you like, group"""
    names: str | None = None
    """array with the names"""
    group: str = "group"
    """column of the labels, or array of the features, that says which samples belong together"""


Subcommand = (
    Annotated[TrainProbe, tyro.conf.subcommand("train")]
    | Annotated[PredictProbe, tyro.conf.subcommand("predict")]
    | Annotated[EvaluateProbe, tyro.conf.subcommand("evaluate")]
)


@dataclass(frozen=True)
class ProbeSettings:
    """The command line of tasks.probe."""

    do: Annotated[Subcommand, tyro.conf.arg(name="")]
