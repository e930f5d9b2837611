"""The command lines of tasks, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusion.training.settings import Machine, Recipe
from preprocess.common.command import ADDRESS_TOO

SEARCHED = (
    "lr",
    "weight_decay",
    "dropout",
    "stream_dropout",
    "label_smoothing",
    "auxiliary",
    "head",
)  # by tune, by default


@dataclass(frozen=True)
class EvaluateSettings:
    """The command line of tasks.evaluate."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio"""
    data: Path = Path("out.h5")
    """store to judge it on"""
    views: int = 5
    """clips a video, spread evenly over its time; their probabilities are averaged"""
    split: str = "auto"
    """test videos of the labels' split column, the run's val videos, or auto: test if any, else all it has not seen"""
    streams: str | None = None
    """judge only subsets of these of the run's streams, separated by commas"""
    weights: str = "best"
    """best (by validation) or last"""
    out: Path | None = None
    """folder for report.json, predictions.csv, confusion.csv and confusion.png; the default is one in the run's, of
    this store, split and choice of weights"""
    batch: int = 32
    """clips at a time"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class PredictSettings:
    """The command line of tasks.predict."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio, or a .safetensors file of it"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files, folders of them, or stores"""
    video: str | None = None
    """of a store only this video: its path, or a part of it that no other has"""
    streams: str | None = None
    """use only these of the run's streams, separated by commas"""
    weights: str = "best"
    """best (by validation) or last"""
    timeline: bool = False
    """answer over the time of every video; without this, of videos of more than 30 seconds"""
    no_timeline: bool = False
    """one answer a video, also for a long one"""
    length: float | None = None
    """seconds of a timeline's windows; the default is that of the training clips. Asks for a timeline"""
    hop: float | None = None
    """seconds from one window of a timeline to the next; the default is the length. Asks for a timeline"""
    views: int = 5
    """clips a video for a single answer, spread evenly over its time"""
    top: int = 5
    """number of classes to show of a single answer"""
    csv: Path | None = None
    """also write a table: a line a video, or a span of its timeline"""
    page: Path | None = None
    """also write a page with the video, its timeline and the streams' shares, to open in a browser; of several videos,
    a folder of pages. Asks for a timeline"""
    json: bool = False
    """print one JSON document instead of tables"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class LiveSettings:
    """The command line of tasks.live."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio, or a .safetensors file of it"""
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = field(metadata=ADDRESS_TOO)
    """number of a camera (0 is /dev/video0), an address (rtsp://…, http://…), or a video file"""
    paced: bool = False
    """hand a file's pictures out by their times, as a camera would; without it all are used, as fast as possible"""
    length: float | None = None
    """seconds of a window; the default is a training clip"""
    hop: float | None = None
    """seconds from one answer to the next; the default is half of a training clip"""
    streams: str | None = None
    """use only these of the run's streams, separated by commas"""
    seconds: float | None = None
    """end after so many seconds of the video; the default is its end, or Ctrl-C"""
    patience: float = 10.0
    """seconds to wait for the first picture, and later for the next one before the source counts as lost"""
    reconnect: float = 60.0
    """seconds for which a lost camera or address is tried again; 0 ends at once"""
    json: bool = False
    """print one JSON object a line instead of text"""
    log: Path | None = None
    """file to whose end the JSON lines are written"""
    page: bool = False
    """serve a page with the answers of the last two minutes, and print its address"""
    host: str = "127.0.0.1"
    """address to serve the page on: this machine alone, unless another is given, whose URL holds a token"""
    port: int = 0
    """port to serve it on; 0 is any free one"""
    weights: str = "best"
    """best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class FeaturesSettings:
    """The command line of tasks.features."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio, or a .safetensors file of it"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS OUT")]
    """video files, folders of them, or stores; then the file to write, .h5 or, for few videos, .npz"""
    length: float | None = None
    """seconds of a window; the default is that of the training clips"""
    hop: float | None = None
    """seconds from one window to the next; the default is the length"""
    streams: str | None = None
    """only these of the run's streams, separated by commas"""
    towers: bool = False
    """also each tower's output, before the LSTM, as the mean over a window"""
    video: str | None = None
    """of a store only this video: its path, or a part of it that no other has"""
    weights: str = "best"
    """best (by validation) or last"""
    batch: int = 32
    """windows at a time"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class AblateSettings:
    """The command line of tasks.ablate."""

    data: Path = Path("out.h5")
    """store to train and judge on"""
    streams: str = "rgb,flow,audio"
    """streams whose subsets are trained"""
    subsets: tuple[str, ...] = ()
    """only these subsets, for instance rgb rgb+flow; the default is all"""
    seeds: int = 1
    """runs of each subset, with other weights and clips but the same split"""
    init: tuple[str, ...] = ()
    """encoders to start from, as train.py's --init; each subset takes what is for its streams, and {seed} in a path is
    the seed of its run, also in --teacher"""
    out: Path = Path("runs/ablation")
    """folder for table.md, table.csv, table.tex, ablation.png, ablation.json and predictions.csv"""
    runs: Path | None = None
    """folder for the runs, which several ablations may share; the default is the same"""
    views: int = 5
    """clips a video when judging"""
    bootstrap_by: str = "group"
    """unit that the intervals resample: group (a video without one is its own), or video, which takes the videos of a
    group for more evidence than they are"""
    ceilings: Path | None = None
    """JSON file of the best top-1 there can be for each subset, if that is known; drawn beside the results"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


@dataclass(frozen=True)
class AuditSettings:
    """The command line of tasks.audit."""

    data: Path = Path("out.h5")
    """store whose split is audited: its test videos, or its validation videos if the labels name no test videos"""
    split_seed: int = 0
    """seed of the choice of validation groups, as in train.py"""


@dataclass(frozen=True)
class TuneSettings:
    """The command line of tasks.tune. Options of train.py hold for all trials, or, if searched, for the first one."""

    data: Path = Path("out.h5")
    """store to train on"""
    streams: str = "rgb,flow,audio"
    """streams to train, separated by commas"""
    trials: int = 30
    """trials in all, those of earlier commands among them"""
    out: Path = Path("tuning")
    """folder for the trials, trials.csv, best.json and figures"""
    search: tuple[str, ...] = SEARCHED
    """parameters to search; also batch, width, feature. Other values: lr=1e-4:1e-3 (from:to), batch=16,32 (one of
    these)"""
    parallel: int = 1
    """trials at once, each in its own process; with several GPUs they take turns"""
    full: bool = False
    """let every trial finish, also one that is behind"""
    seed: int = 0
    """seed of the search and of each trial's weights and clips"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)
