"""The command line of tasks.publish, apart from its code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class PublishSettings:
    """The command line of tasks.publish."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder to make"""
    repo: str | None = None
    """also upload the folder to this repository of the Hugging Face hub, OWNER/NAME, which is made if need be"""
    private: bool = False
    """a repository that is made is seen by its owner alone"""
    judged: tuple[Path, ...] = ()
    """folders of reports of tasks.evaluate; the default is all in the run's that judged these weights"""
    ablation: Path | None = None
    """folder of tasks.ablate, whose tables the card shows"""
    licence: str | None = None
    """licence of the weights, as the hub names it: apache-2.0, cc-by-4.0 …"""
    data: str | None = None
    """a sentence on the training videos: what they are, whence, and under which licence"""
    not_for: tuple[str, ...] = ()
    """sentences on what the model is not good for, beside what the results show"""
    weights: str = "best"
    """best (by validation) or last"""
