"""Training of a forecaster: mean squared error, one cycle of the learning rate, the mean of the last weights."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fusion.training.optimizers import make_optimizer
from preprocess.common.console import progress
from preprocess.common.errors import UserError
from tasks.forecasting.forecaster import Forecaster, batch_of, precision, see, untrained
from tasks.forecasting.metrics import judge
from tasks.forecasting.sequences import FrameSequence, windows_of
from tasks.forecasting.settings import ForecastRecipe
from tasks.forecasting.symmetry import views

LONGEST = 100  # steps over which weights are averaged; the mean is what answers
WARM = 0.1  # share of the steps in which the learning rate rises
DECAY = 0.01


def train_forecaster(
    sequences: Sequence[FrameSequence],
    recipe: ForecastRecipe,
    *,
    seed: int,
    device: str = "auto",
    bfloat16: bool = False,
    bar: str | None = None,
    after: Callable[[int, float, Forecaster], None] | None = None,
) -> Forecaster:
    """A forecaster that has learned from all windows of the sequences.

    after: called after each pass with its number, its mean error (MSE summed over a frame) and the forecaster so far.

    Raises UserError for a recipe that cannot be, or sequences that are too short.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    windows = windows_of(sequences, recipe, hop=recipe.hop)
    forecaster = untrained(recipe, device=device)
    network = forecaster.network
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_average)
    answers = Forecaster(mean.module, recipe, forecaster.device)
    steps = -(-len(windows) // recipe.batch)
    optimizer = make_optimizer(recipe.optimizer, network.parameters(), lr=recipe.rate, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.rate, total_steps=recipe.passes * steps, pct_start=WARM
    )
    with progress(total=recipe.passes * steps, unit="step", name=bar or "", leave=False, hidden=bar is None) as shown:
        for number in range(1, recipe.passes + 1):
            network.train()
            order, total = rng.permutation(len(windows)), 0.0
            for begin in range(0, len(order), recipe.batch):
                chosen = [windows[row] for row in order[begin : begin + recipe.batch]]
                frames, motion = batch_of(sequences, chosen, recipe, length=recipe.past + recipe.future)
                frames, motion = augmented(frames, motion, recipe, rng)
                frames = frames.to(forecaster.device)
                seen = see(frames, None if motion is None else motion.to(forecaster.device), recipe)
                with precision(forecaster.device, bfloat16=bfloat16):
                    answer = network(seen.past, seen.moved, seen.arrived)
                truth = frames[:, recipe.past :].float() / 255
                loss = (answer.float() - truth).square().sum(dim=(2, 3, 4)).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 10.0)
                optimizer.step()
                rate.step()
                mean.update_parameters(network)
                total += loss.item() * len(chosen)
                shown.update()
            if not np.isfinite(total):
                raise UserError(f"the training diverged in pass {number}: lower --rate {recipe.rate}")
            if after is not None:
                after(number, total / len(order), answers)
    return answers


def mean_errors(forecaster: Forecaster, sequences: Sequence[FrameSequence]) -> tuple[float, float]:
    """The MSE, summed over a frame, of a forecaster and of its floor, over all windows; from one view, to be quick."""
    recipe = forecaster.recipe
    windows = windows_of(sequences, recipe, hop=recipe.future)
    own, floor, place = 0.0, 0.0, 0
    for forecast in forecaster.forecast(sequences, windows, one_view=True):
        count = len(forecast.frames)
        truth = truths(sequences, windows[place : place + count], recipe)
        own += judge(forecast.frames, truth).mse.mean(axis=1).sum()
        floor += judge(forecast.floor, truth).mse.mean(axis=1).sum()
        place += count
    return own / place, floor / place


def truths(
    sequences: Sequence[FrameSequence], windows: Sequence[tuple[int, int]], recipe: ForecastRecipe
) -> np.ndarray:
    """What came in these windows: (N, T', H, W, C) float32 between 0 and 1."""
    past, until = recipe.past, recipe.past + recipe.future
    return np.stack([sequences[row].frames[start + past : start + until] for row, start in windows]) / np.float32(255)


def augmented(
    frames: Tensor, motion: Tensor | None, recipe: ForecastRecipe, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """(B, T, C, H, W) and velocities (B, T, 2, H, W) mirrored and turned, a batch alike; backwards without flow."""
    chosen, backwards = views(recipe.augment), rng.random() < 0.5
    seen = chosen[rng.integers(len(chosen))]
    if recipe.augment == "all" and backwards and motion is None:
        frames = frames.flip(1)
    return seen.frames(frames), None if motion is None else seen.motion(motion)


@torch.no_grad()
def _average(averaged: list[Tensor], now: list[Tensor], steps: Tensor) -> None:
    """The running mean of the weights, over the last quarter of the steps so far, or LONGEST."""
    torch._foreach_lerp_(averaged, now, 1 / min(LONGEST, 1 + int(steps) / 4))
