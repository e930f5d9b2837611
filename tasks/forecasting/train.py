"""The training of a forecaster, as a command: checks, its folder, the curve of its error."""

import csv
from pathlib import Path

from fusion.training.optimizers import check_optimizer
from fusion.training.run import write_json
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from tasks.folder import output_folder
from tasks.forecasting.forecaster import WEIGHTS, Forecaster, save_forecaster
from tasks.forecasting.networks import NETWORKS, PATCH
from tasks.forecasting.sequences import read_sequences, windows_of
from tasks.forecasting.settings import ForecastRecipe, TrainForecast
from tasks.forecasting.symmetry import AUGMENTS
from tasks.forecasting.training import mean_errors, train_forecaster

SMALLEST = 8  # pixels of a side: SSIM's windows have 7


def train(settings: TrainForecast) -> Forecaster:
    """Train, write the folder after each pass, return the forecaster.

    Raises UserError for a recipe or data that cannot be learned from, or a folder that holds a forecaster.
    """
    recipe, out = settings.recipe, settings.out
    check_recipe(recipe)
    at_least(0, seed=settings.seed)
    if (out / WEIGHTS).exists():
        raise UserError(f"{out} holds a forecaster: name another folder with --out, or delete it")
    with output_folder(out):
        sequences = read_sequences(settings.data, recipe, bar="data")
        held = None if settings.held is None else read_sequences([settings.held], recipe, bar="held")
        count = len(windows_of(sequences, recipe, hop=recipe.hop))
        if held is not None:
            windows_of(held, recipe, hop=recipe.future)
        print(f"{out}: {recipe.network}, {plural(count, 'window')} of {plural(len(sequences), 'sequence')}")
        curve: list[dict[str, str]] = []

        def after(number: int, error: float, forecaster: Forecaster) -> None:
            line = {"pass": str(number), "windows": str(number * count), "train_mse": f"{error:.3f}"}
            if held is not None:
                own, floor = mean_errors(forecaster, held)
                line |= {"held_mse": f"{own:.3f}", "held_floor_mse": f"{floor:.3f}"}
            curve.append(line)
            print("  ".join(f"{name} {value}" for name, value in line.items()), flush=True)
            save_forecaster(out, forecaster)
            _write_curve(out / "curve.csv", curve)

        forecaster = train_forecaster(
            sequences,
            recipe,
            seed=settings.seed,
            device=settings.device,
            bfloat16=settings.bfloat16,
            bar="training",
            after=after,
        )
        write_json(out / "settings.json", settings)
    print(f"judge it with: python -m tasks.forecast evaluate {out} TEST.npz")
    return forecaster


def check_recipe(recipe: ForecastRecipe) -> None:
    """Raises UserError for a name that is not known, or a number that cannot be."""
    if recipe.network not in NETWORKS:
        raise UserError(f"unknown --network '{recipe.network}': known are {', '.join(NETWORKS)}")
    if recipe.augment not in AUGMENTS:
        raise UserError(f"unknown --augment '{recipe.augment}': known are {', '.join(AUGMENTS)}")
    check_optimizer(recipe.optimizer)
    at_least(1, future=recipe.future, depth=recipe.depth, passes=recipe.passes, batch=recipe.batch, hop=recipe.hop)
    at_least(2, past=recipe.past)
    at_least(SMALLEST, size=recipe.size, width=recipe.width)
    at_least(0.1, fps=recipe.fps)
    at_least(1e-7, rate=recipe.rate)
    if recipe.size % PATCH:
        raise UserError(f"--size must be a multiple of {PATCH}, not {recipe.size}")
    if recipe.width % 8:
        raise UserError(f"--width must be a multiple of 8, not {recipe.width}")


def _write_curve(path: Path, curve: list[dict[str, str]]) -> None:
    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, curve[0])
            table.writeheader()
            table.writerows(curve)

    write_aside(path, write)
