"""The command line of tasks.explain, apart from its code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ExplainSettings:
    """The command line of tasks.explain."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio, or a .safetensors file of it"""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """a video file, or a store with --video"""
    video: str | None = None
    """of a store this video: its path, or a part of it that no other has"""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """the class to explain; the default is the likeliest"""
    streams: str | None = None
    """use only these of the run's streams, separated by commas"""
    views: int = 5
    """clips, spread evenly over the video, whose mean is explained, as predict answers"""
    steps: int = 32
    """steps of the integrated gradients; more of them add up more closely"""
    page: Path | None = None
    """also write a page to look through in a browser, .html"""
    out: Path | None = None
    """also write explanation.png, explanation.json and maps.npz into this folder"""
    json: bool = False
    """print JSON instead of text"""
    check: bool = False
    """also measure the maps: with randomised weights, and by deletion and insertion"""
    weights: str = "best"
    """best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
