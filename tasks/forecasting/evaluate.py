"""A forecaster judged beside floors: a table, report.json, and a figure of the error by the step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion.training.run import write_json
from preprocess.common.console import plural, print_table, progress
from preprocess.common.errors import at_least
from preprocess.common.figures import figure_file
from tasks.folder import output_folder
from tasks.forecasting.floors import floors
from tasks.forecasting.forecaster import Forecaster, load_forecaster
from tasks.forecasting.metrics import Scores, judge
from tasks.forecasting.sequences import FrameSequence, read_sequences, windows_of
from tasks.forecasting.settings import EvaluateForecast
from tasks.forecasting.training import truths

OURS = "forecaster"
DIGITS = {"mse": 2, "mae": 1, "psnr": 2, "ssim": 4}


def evaluate(settings: EvaluateForecast) -> dict[str, Scores]:
    """Judge, print, write the folder; scores by the name of what forecast.

    Raises UserError for a folder or data that cannot be used.
    """
    forecaster = load_forecaster(settings.forecaster, device=settings.device)
    hop = forecaster.recipe.future if settings.hop is None else settings.hop
    at_least(1, hop=hop)
    out = settings.out or settings.forecaster / "evaluation"
    with output_folder(out):
        sequences = read_sequences(settings.data, forecaster.recipe, bar="data")
        windows = windows_of(sequences, forecaster.recipe, hop=hop)
        found = judge_windows(forecaster, sequences, windows)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "report.json", _report(found, sequences=len(sequences), windows=len(windows)))
        _draw(out / "steps.png", found)
    print(f"{plural(len(windows), 'window')} of {plural(len(sequences), 'sequence')}; MSE and MAE summed over a frame")
    still = found["last frame"].mse.mean()
    rows = [
        [name, *(f"{value:.{DIGITS[key]}f}" for key, value in scores.means().items()), _skill(scores, still)]
        for name, scores in found.items()
    ]
    print_table(["", "MSE", "MAE", "PSNR dB", "SSIM", "skill"], rows)
    return found


def judge_windows(
    forecaster: Forecaster, sequences: Sequence[FrameSequence], windows: Sequence[tuple[int, int]]
) -> dict[str, Scores]:
    """Scores of the forecaster and of each floor, by name, on windows: (sequence, first frame) each."""
    recipe = forecaster.recipe
    parts: dict[str, list[Scores]] = {}
    place = 0
    with progress(total=len(windows), unit="window", leave=False) as shown:
        for forecast in forecaster.forecast(sequences, windows):
            chosen = windows[place : place + len(forecast.frames)]
            past = np.stack([sequences[row].frames[start : start + recipe.past] for row, start in chosen])
            truth = truths(sequences, chosen, recipe)
            answers = {OURS: forecast.frames} | floors(past / np.float32(255), forecast, flow=recipe.flow)
            for name, frames in answers.items():
                parts.setdefault(name, []).append(judge(frames, truth))
            place += len(chosen)
            shown.update(len(chosen))
    return {
        name: Scores(*(np.concatenate([getattr(one, key) for one in given]) for key in DIGITS))
        for name, given in parts.items()
    }


def _skill(scores: Scores, still: float) -> str:
    """1 less the share of the last frame's error that is left; nothing if the last frame has none."""
    return f"{1 - scores.mse.mean() / still:.3f}" if still > 0 else "–"


def _report(found: dict[str, Scores], *, sequences: int, windows: int) -> dict:
    return {
        "sequences": sequences,
        "windows": windows,
        "scores": {name: scores.means() for name, scores in found.items()},
        "by_step": {
            name: {key: values.mean(axis=0).tolist() for key, values in vars(scores).items()}
            for name, scores in found.items()
        },
    }


def _draw(path: Path, found: dict[str, Scores]) -> None:
    """The mean squared error by the step ahead; black is left out where it would flatten the rest."""
    worst = max(scores.mse.mean(axis=0).max() for name, scores in found.items() if name != "black")
    with figure_file(path, size=(6, 4), dpi=120) as figure:
        axes = figure.add_subplot()
        for name, scores in found.items():
            by_step = scores.mse.mean(axis=0)
            if name != "black" or by_step.max() < 2 * worst:
                axes.plot(range(1, len(by_step) + 1), by_step, marker=".", lw=2.5 if name == OURS else 1, label=name)
        axes.set_xlabel("frames ahead")
        axes.set_ylabel("squared error, summed over a frame")
        axes.set_ylim(bottom=0)
        axes.legend()
