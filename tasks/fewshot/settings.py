"""The command line of tasks.fewshot, apart from its code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class FewShotSettings:
    """The command line of tasks.fewshot."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run whose features are used, or a .safetensors file of it"""
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """store of the videos, of classes that the run has not learned"""
    episodes: Path | None = None
    """JSON file of fixed episodes (docs/fewshot.md); without it they are drawn, by --way, --shot and --queries"""
    way: int = 5
    """classes of an episode that is drawn"""
    shot: int = 1
    """known videos of each class"""
    queries: int = 2
    """videos of each class that are asked about"""
    count: int = 600
    """episodes that are drawn"""
    seed: int = 0
    """seed of the draw"""
    by: Literal["prototype", "dtw"] = "prototype"
    """prototype: the mean of a class's known videos; dtw: the videos step by step, in the order of time"""
    of: Literal["features", "towers"] = "features"
    """features: after the LSTM; towers: before it"""
    streams: str | None = None
    """use only these of the run's streams, separated by commas"""
    trust: tuple[str, ...] = ()
    """how much a stream's similarity counts, as STREAM=NUMBER, where it is not 1; to be chosen on other classes"""
    views: int = 5
    """clips a video, spread evenly over its time"""
    out: Path | None = None
    """JSON file for the answers, in the order of the queries, and the accuracies"""
    weights: str = "best"
    """best (by validation) or last"""
    batch: int = 32
    """clips at a time"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
