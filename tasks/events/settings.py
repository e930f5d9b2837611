"""The command lines of tasks.events, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusion.training.settings import Machine, Recipe


@dataclass(frozen=True)
class HeadRecipe:
    """How a temporal head learns."""

    head: str = "tcn"
    """tcn, lstm, or multiscale, which finds long events at coarse scales and lets them overlap"""
    hop: float = 0.32
    """seconds from one window to the next"""
    length: float | None = None
    """seconds of a window; the default is the length of the clips that the towers learned from"""
    passes: int = 100
    """passes over the videos"""
    videos: int = 4
    """videos a step"""
    rate: float = 1e-3
    """highest learning rate"""
    decay: float = 0.05
    """weight decay"""
    channels: int = 64
    """width of the head"""
    drop: float = 0.3
    """share of channels that are dropped in training"""
    hide: float = 0.2
    """probability that a stream of a video is hidden in training, so that the others can do without it"""


@dataclass(frozen=True)
class CutEvents:
    """Cut long videos into a store of parts, an event each and what lies between, for train.py to learn towers from."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """store of the long videos"""
    labels: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="EVENTS.csv")]
    """their events: columns video, start, end (seconds), label"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """store to write"""


@dataclass(frozen=True)
class TrainEvents:
    """Train a detector on a store of long videos and a table of their events."""

    data: Path = Path("out.h5")
    """store of the long videos, from preprocess.extract"""
    labels: Path = Path("events.csv")
    """their events: columns video, start, end (seconds), label"""
    init: Path | None = None
    """trained run whose towers are used, or a file of its weights; without it, towers learn first, from parts of the
    videos, as train.py would with the options of --towers"""
    out: Path = Path("runs/events")
    """folder of the detector"""
    streams: str | None = None
    """streams to use, separated by commas; the default is all of the run's"""
    seed: int = 0
    """seed of the head's weights and of what it sees"""
    head: Annotated[HeadRecipe, tyro.conf.arg(name="")] = field(default_factory=HeadRecipe)
    towers: Recipe = field(default_factory=Recipe)
    """without --init: how the towers learn, by the options of train.py"""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


@dataclass(frozen=True)
class PredictEvents:
    """Find the events of videos, and write them as CSV, JSON, subtitles and a picture."""

    detector: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTOR")]
    """folder of the detector"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files, folders of them, or stores"""
    out: Path = Path("found")
    """folder for events.csv and events.json, with all that was found, and for each video its subtitles (.vtt) and a
    picture of its timeline (.png), with what is surer than --least"""
    least: float = 0.3
    """score from which an event is printed, drawn and in the subtitles"""
    streams: str | None = None
    """use only these streams"""
    page: Path | None = None
    """also a page with the video and its events, to open in a browser; of several videos, a folder of pages"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class EvaluateEvents:
    """Judge a detector on a store of videos whose events are known, from every subset of its streams."""

    detector: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTOR")]
    """folder of the detector"""
    data: Path = Path("test.h5")
    """store of videos that it has not learned from"""
    labels: Path = Path("events.csv")
    """their events: columns video, start, end, label; with a column kind, recall is told apart by it"""
    out: Path | None = None
    """folder for report.json, events.csv, a picture a video; the default is one in the detector's"""
    streams: str | None = None
    """judge only subsets of these"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class AblateEvents:
    """Train a detector for each subset of the streams, and compare it with one model of all streams from which some are
    taken away, and with separate models of one stream each, averaged.
    """

    data: Path = Path("out.h5")
    """store of the long videos to learn from"""
    labels: Path = Path("events.csv")
    """their events"""
    test_data: Path = Path("test.h5")
    """store of the videos to judge"""
    test_labels: Path = Path("test.csv")
    """their events"""
    init: Path = Path("runs/rgb+flow+audio")
    """trained run whose towers are used"""
    out: Path = Path("runs/events-ablation")
    """folder for table.md, ablation.json and events.csv of all detectors"""
    seeds: int = 1
    """detectors of each subset"""
    head: Annotated[HeadRecipe, tyro.conf.arg(name="")] = field(default_factory=HeadRecipe)
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


Subcommand = (
    Annotated[TrainEvents, tyro.conf.subcommand("train")]
    | Annotated[PredictEvents, tyro.conf.subcommand("predict")]
    | Annotated[EvaluateEvents, tyro.conf.subcommand("evaluate")]
    | Annotated[AblateEvents, tyro.conf.subcommand("ablate")]
    | Annotated[CutEvents, tyro.conf.subcommand("cut")]
)


@dataclass(frozen=True)
class EventsSettings:
    """The command line of tasks.events."""

    do: Annotated[Subcommand, tyro.conf.arg(name="")]
