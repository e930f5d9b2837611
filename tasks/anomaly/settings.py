"""The command lines of tasks.anomaly, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from preprocess.common.command import ADDRESS_TOO


@dataclass(frozen=True)
class TrainAnomaly:
    """Learn what is normal from videos in which nothing unusual happens."""

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NORMAL OUT")]
    """video files, folders of them, or stores; then the folder of the detector"""
    streams: str = "rgb,flow,audio"
    """what to watch: how things look (rgb; needs the extra pretrained), how fast they move (flow), what is heard"""
    short_side: int = 240
    """pixels of the shorter side to which videos are reduced; a store has its own"""
    step: float = 0.16
    """seconds from one look to the next"""
    size: int = 15_000
    """examples that are kept of each stream"""
    seed: int = 0
    """seed of their choice"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class WatchAnomaly:
    """Find what is unusual in videos, or in a live one: alarms with their times, and where in the picture."""

    detector: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTOR")]
    """folder of the detector"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")] = ()
    """video files, folders of them, or stores"""
    live: str | None = field(default=None, metadata=ADDRESS_TOO)
    """instead: number of a camera (0 is /dev/video0), an address (rtsp://…, http://…), or a file, in real time"""
    false_alarms: float = 1.0
    """false alarms an hour that you would put up with; it sets the threshold"""
    streams: str | None = None
    """use only these of the detector's streams, separated by commas"""
    out: Path | None = None
    """also write the alarms, as .csv, .json or, of one video, as subtitles (.vtt)"""
    scores: Path | None = None
    """also write a JSON file: {video: [a score a frame], video_xy: [the place of the most unusual, in its pixels]}"""
    page: Path | None = None
    """also write a page with the score over time, and where the alarms were"""
    seconds: float | None = None
    """of a live video: end after so many seconds; the default is its end, or Ctrl-C"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class EvaluateAnomaly:
    """Judge a detector on videos of which is known when something unusual happens."""

    detector: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DETECTOR")]
    """folder of the detector"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS TRUTH")]
    """video files, folders of them, or stores; then the truth: a .json {video: [0 or 1 a frame]}, or a .csv with the
    columns video, start, end, label"""
    false_alarms: float = 1.0
    """false alarms an hour that set the threshold"""
    out: Path | None = None
    """also write the figures as JSON"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


Subcommand = (
    Annotated[TrainAnomaly, tyro.conf.subcommand("train")]
    | Annotated[WatchAnomaly, tyro.conf.subcommand("watch")]
    | Annotated[EvaluateAnomaly, tyro.conf.subcommand("evaluate")]
)


@dataclass(frozen=True)
class AnomalySettings:
    """The command line of tasks.anomaly."""

    do: Annotated[Subcommand, tyro.conf.arg(name="")]
