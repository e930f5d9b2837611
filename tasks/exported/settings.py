"""The command line of tasks.export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ExportSettings:
    """The command line of tasks.export."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio, or a .safetensors file of it"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder to make"""
    weights: str = "best"
    """best (by validation) or last"""
    pt2: bool = False
    """also write each part as a program of torch.export, .pt2"""
    page: Path | None = None
    """also write a page that runs the model in a browser, on a clip of this video and on others"""
