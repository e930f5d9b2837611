"""Forecasts of a command line's sequences, written as arrays, pictures, a film, or errors by the frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from tasks.folder import check_output, output_folder
from tasks.forecasting.drawing import Shown, write_film, write_strip
from tasks.forecasting.floors import WARP
from tasks.forecasting.forecaster import Forecast, Forecaster, load_forecaster
from tasks.forecasting.scores import frame_errors, write_errors
from tasks.forecasting.sequences import FrameSequence, read_sequences, windows_of
from tasks.forecasting.settings import PredictForecast


def predict(settings: PredictForecast) -> None:
    """Forecast, and write what was asked for.

    Raises UserError if nothing was asked for, or for a folder or data that cannot be used.
    """
    forecaster = load_forecaster(settings.forecaster, device=settings.device)
    recipe = forecaster.recipe
    check(settings, forecaster)
    sequences = read_sequences(settings.data, recipe, bar="data")
    if any(place is not None for place in (settings.out, settings.pictures, settings.film)):
        hop = recipe.future if settings.hop is None else settings.hop
        windows = last_windows(sequences, forecaster) if settings.after_end else windows_of(sequences, recipe, hop=hop)
        _forecast(settings, forecaster, sequences, windows)
    if settings.scores is not None:
        errors = list(frame_errors(forecaster, sequences, step=settings.step))
        write_errors(settings.scores, errors)
        print(f"{settings.scores}: {plural(len(errors), 'frame')}")


def check(settings: PredictForecast, forecaster: Forecaster) -> None:
    """Raises UserError for what is wrong by itself, before the work."""
    places = {"--out": settings.out, "--film": settings.film, "--scores": settings.scores}
    if settings.pictures is None and not any(places.values()):
        raise UserError("nothing to write: give --out A.npz, --pictures FOLDER, --film A.mp4 or --scores A.csv")
    for (option, path), suffix in zip(places.items(), (".npz", ".mp4", ".csv"), strict=True):
        if path is not None:
            check_output(path, option=option)
            if path.suffix.lower() != suffix:
                raise UserError(f"{option} {path}: name a file that ends with {suffix}")
            if any(path.exists() and one.exists() and path.samefile(one) for one in settings.data):
                raise UserError(f"{option} {path} is what is forecast: name another file")
    at_least(1, hop=1 if settings.hop is None else settings.hop, most=settings.most, step=settings.step)
    if settings.step > forecaster.recipe.future:
        raise UserError(f"--step {settings.step}: the forecaster looks {forecaster.recipe.future} frames ahead at most")


def last_windows(sequences: Sequence[FrameSequence], forecaster: Forecaster) -> list[tuple[int, int]]:
    """The last past of each sequence: (sequence, first frame). Raises UserError for one that is too short."""
    past = forecaster.recipe.past
    for sequence in sequences:
        if len(sequence) < past:
            raise UserError(f"{sequence.name} has {plural(len(sequence), 'frame')}, the forecaster sees {past}")
    return [(row, len(sequence) - past) for row, sequence in enumerate(sequences)]


def _forecast(
    settings: PredictForecast,
    forecaster: Forecaster,
    sequences: Sequence[FrameSequence],
    windows: Sequence[tuple[int, int]],
) -> None:
    recipe = forecaster.recipe
    kept, drawn = [], []
    with progress(total=len(windows), unit="window", leave=False) as shown:
        for forecast in forecaster.forecast(sequences, windows):
            if settings.out is not None:
                kept.append(np.rint(forecast.frames * 255).astype(np.uint8))
            first = shown.n
            for row in range(min(len(forecast.frames), settings.most - len(drawn))):
                drawn.append(_shown(sequences, windows[first + row], forecast, row, forecaster))
            shown.update(len(forecast.frames))
    if settings.out is not None:
        _write_arrays(settings.out, np.concatenate(kept), sequences, windows)
        print(f"{settings.out}: {plural(len(windows), 'window')} of {plural(len(sequences), 'sequence')}")
    if settings.pictures is not None:
        with output_folder(settings.pictures):
            settings.pictures.mkdir(parents=True, exist_ok=True)
            for number, one in enumerate(progress(drawn, unit="picture", leave=False), start=1):
                floor = WARP if recipe.flow else "last frame"
                write_strip(settings.pictures / f"{number:03d}.png", one, floor=floor)
        print(f"{settings.pictures}: {plural(len(drawn), 'picture')}")
    if settings.film is not None:
        write_film(settings.film, drawn, fps=sequences[0].fps)
        print(f"{settings.film}: truth, forecast, floor of {plural(len(drawn), 'window')}")


def _shown(
    sequences: Sequence[FrameSequence], window: tuple[int, int], forecast: Forecast, row: int, forecaster: Forecaster
) -> Shown:
    (number, start), recipe = window, forecaster.recipe
    sequence, here = sequences[number], start + recipe.past
    truth = sequence.frames[here : here + recipe.future] / np.float32(255)
    return Shown(
        name=f"{sequence.name}, frames {here} to {here + recipe.future - 1}",
        past=sequence.frames[start:here] / np.float32(255),
        truth=truth if len(truth) == recipe.future else None,
        forecast=forecast.frames[row],
        floor=forecast.floor[row],
    )


def _write_arrays(
    path: Path, frames: np.ndarray, sequences: Sequence[FrameSequence], windows: Sequence[tuple[int, int]]
) -> None:
    names = np.array([sequences[row].name.encode("utf-8", "backslashreplace").decode() for row, _ in windows])
    arrays = {"pred": frames[..., 0] if frames.shape[-1] == 1 else frames, "name": names}
    starts = np.array([start for _, start in windows])

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **arrays, start=starts)

    write_aside(path, write)
