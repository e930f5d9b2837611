"""The command line of tasks.summarise, apart from its code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class SummariseSettings:
    """The command line of tasks.summarise."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|DETECTOR")]
    """folder of a run, or of a detector of tasks.events; a run without classes does too"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files, folders of them, or stores"""
    share: str = "15%"
    """how much of the video to keep at most: 15%, 0.15, or seconds: 30s"""
    piece: float = 1.5
    """seconds of a piece; more makes a calmer film of fewer moments"""
    query: str | None = None
    """shorten to what concerns a stream of the run (audio), or a class of it (Archery)"""
    out: Path | None = None
    """also write the short film, an .mp4 with its sound; of several videos, a folder of films"""
    frames: Path | None = None
    """also write a picture of each piece's most important moment into this folder"""
    page: Path | None = None
    """also write a page with the video, the pieces and why each was kept; of several videos, a folder of pages"""
    csv: Path | None = None
    """also write a table: video, start, end, label (the reason), score"""
    json: bool = False
    """print one JSON document with the pieces, their reasons, and the importance of every second"""
    importance: Path | None = None
    """use what people find important, as python -m tasks.summary.learn has learned it"""
    hop: float = 0.5
    """seconds from one window to the next"""
    video: str | None = None
    """of a store only this video: its path, or a part of it that no other has"""
    weights: str = "best"
    """of a run: best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class LearnSettings:
    """The command line of tasks.summary.learn."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run whose features are used"""
    scores: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCORES.csv")]
    """what people said: columns video, time (seconds), score and, if there are several, person"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """the videos: files, folders of them, or stores"""
    out: Path = Path("importance.npz")
    """file for what was learned, for --importance of tasks.summarise"""
    folds: int = 5
    """parts of the videos, each judged by what was learned from the others"""
    hop: float = 0.5
    """seconds from one window to the next"""
    weights: str = "best"
    """best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
