"""How far each frame was from its forecast: what could not be foreseen may be an anomaly (Liu et al., CVPR 2018)."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from preprocess.common.console import progress
from preprocess.common.files import write_aside
from tasks.forecasting.forecaster import Forecaster
from tasks.forecasting.sequences import FrameSequence, windows_of

NEAR = 1 / 8  # of a frame's side: the window over which `peak` is a mean


@dataclass(frozen=True)
class FrameError:
    """The error of one frame's forecast, a few frames ahead."""

    video: str
    frame: int
    time: float  # seconds
    error: float  # squared, the mean over the frame, of values between 0 and 1
    peak: float  # the same over the worst window: a small thing does not drown in the rest
    floor: float  # the error of the last frame moved on by flow, or without flow of the last frame


def frame_errors(forecaster: Forecaster, sequences: Sequence[FrameSequence], *, step: int) -> Iterator[FrameError]:
    """The errors of all frames that have enough past, in the order of sequences and time.

    Raises UserError if no sequence is long enough.
    """
    past = forecaster.recipe.past
    windows = windows_of(sequences, forecaster.recipe, hop=1, future=step)
    place = 0
    with progress(total=len(windows), unit="frame", leave=False) as shown:
        for forecast in forecaster.forecast(sequences, windows):
            for ours, floor in zip(forecast.frames[:, step - 1], forecast.floor[:, step - 1], strict=True):
                row, start = windows[place]
                sequence, number = sequences[row], start + past + step - 1
                truth = sequence.frames[number] / np.float32(255)
                squares = ((ours - truth) ** 2).mean(axis=-1)
                near = uniform_filter(squares, max(1, round(NEAR * len(squares))), mode="constant")
                yield FrameError(
                    video=sequence.name,
                    frame=number,
                    time=number / sequence.fps,
                    error=float(squares.mean()),
                    peak=float(near.max()),
                    floor=float(((floor - truth) ** 2).mean()),
                )
                place += 1
                shown.update()


def write_errors(path: Path, errors: Sequence[FrameError]) -> None:
    """A table: video, frame, time, error, peak, floor."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            table.writerow(FrameError.__dataclass_fields__)
            for one in errors:
                numbers = (f"{value:.6g}" for value in (one.error, one.peak, one.floor))
                table.writerow([one.video, one.frame, f"{one.time:.3f}", *numbers])

    write_aside(path, write)
