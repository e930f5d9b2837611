"""The command lines of tasks.forecast, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ForecastRecipe:
    """What a forecaster sees, is, and how it learns."""

    network: str = "simvp"
    """simvp or convlstm"""
    past: int = 10
    """frames that it sees"""
    future: int = 10
    """frames that it forecasts"""
    size: int = 64
    """pixels of a side; frames of other sizes are resized to this square. A multiple of 4"""
    fps: float = 25.0
    """frames a second of videos; arrays and stores have their own"""
    colour: bool = False
    """RGB instead of grey"""
    flow: bool = True
    """TV-L1 flow as a second input, and what it moves on as the base; without it the last frame is the base"""
    width: int = 16
    """channels of a frame's features; a multiple of 8"""
    depth: int = 3
    """residual blocks of simvp, layers of convlstm (for which 2 are usual)"""
    passes: int = 10
    """passes over the windows"""
    batch: int = 16
    """windows a step"""
    rate: float = 1e-3
    """highest learning rate"""
    optimizer: str = "muon"
    """muon: kernels step along the nearest orthogonal matrix of their momentum, all else by AdamW; or adamw alone"""
    hop: int = 10
    """frames from one window of a video to the next"""
    augment: str = "mirror"
    """none; mirror; or all: also upside down, turned, and, without flow, backwards in time"""


@dataclass(frozen=True)
class TrainForecast:
    """Train a forecaster on arrays, stores or videos."""

    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """.npz files with frames (N, T, H, W) or (N, T, H, W, 3) uint8, stores, video files, folders of them"""
    out: Path = Path("runs/forecast")
    """folder of the forecaster"""
    held: Path | None = None
    """the same of sequences that are not learned from, for a curve of the error: .npz, store, video or folder"""
    seed: int = 0
    """seed of the weights and of the order of windows"""
    recipe: Annotated[ForecastRecipe, tyro.conf.arg(name="")] = field(default_factory=ForecastRecipe)
    bfloat16: bool = False
    """compute in bfloat16: about twice as fast on CPUs with AMX"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class PredictForecast:
    """Forecast: arrays of frames, pictures, a film beside the truth, and how far each frame was from its forecast."""

    forecaster: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FORECASTER")]
    """folder of the forecaster"""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """.npz files with frames, stores, video files, folders of them"""
    out: Path | None = None
    """.npz for pred (N, T', H, W) or (N, T', H, W, 3) uint8, with name and start of each window"""
    hop: int | None = None
    """frames from one window to the next; the default is the number of frames that are forecast"""
    after_end: bool = False
    """forecast what comes after the end of each sequence, instead of windows whose future is known"""
    pictures: Path | None = None
    """folder for a picture of each of the first --most windows: past, truth, forecast, floor"""
    film: Path | None = None
    """.mp4 of truth, forecast and floor side by side, over the first --most windows"""
    most: int = 20
    """windows to draw"""
    scores: Path | None = None
    """.csv with how far each frame was from its forecast out of those right before it, for a detector of anomalies"""
    step: int = 1
    """of --scores: how many frames ahead"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class EvaluateForecast:
    """Judge a forecaster beside floors that learn nothing: the last frame, the mean of the past, black, the warp."""

    forecaster: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FORECASTER")]
    """folder of the forecaster"""
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """.npz files with frames, stores, video files, folders of them, that it has not learned from"""
    out: Path | None = None
    """folder for report.json and steps.png; the default is evaluation/ in the forecaster's"""
    hop: int | None = None
    """frames from one window to the next; the default is the number of frames that are forecast"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


Subcommand = (
    Annotated[TrainForecast, tyro.conf.subcommand("train")]
    | Annotated[PredictForecast, tyro.conf.subcommand("predict")]
    | Annotated[EvaluateForecast, tyro.conf.subcommand("evaluate")]
)


@dataclass(frozen=True)
class ForecastSettings:
    """The command line of tasks.forecast."""

    do: Annotated[Subcommand, tyro.conf.arg(name="")]
