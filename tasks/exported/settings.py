"""The command line of tasks.export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

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
    format: Literal["onnx", "pt2", "aoti"] = "onnx"
    """onnx: for onnxruntime, anywhere; pt2: programs of torch.export; aoti: the same compiled for this machine by
    AOTInductor, which needs a C++ compiler"""
    page: Path | None = None
    """also write a page that runs the model in a browser, on a clip of this video and on others"""
