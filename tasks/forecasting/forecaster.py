"""A trained forecaster: its network and recipe, its answers beside the floor, and its folder."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fusion.device import choose_device
from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store.format import release
from tasks.forecasting.networks import make_network
from tasks.forecasting.sequences import FrameSequence
from tasks.forecasting.settings import ForecastRecipe
from tasks.forecasting.symmetry import Symmetry, views
from tasks.forecasting.warp import warp_on

WEIGHTS, KEY = "forecaster.safetensors", "tristream-forecast"
SPEED = 4.0  # pixels a frame that the networks see as 1


@dataclass(frozen=True)
class Forecast:
    """Frames of N windows, between 0 and 1, each (N, T', H, W, C) float32."""

    frames: np.ndarray
    floor: np.ndarray  # the last frame, moved on by flow if the forecaster has flow


@dataclass(frozen=True)
class Seen:
    """What a network sees of B windows."""

    past: Tensor  # (B, T, C, H, W), or C + 2 with velocities
    moved: Tensor  # (B, T', C, H, W), or T' = 1: the same base for all
    arrived: Tensor  # (B, T', 1, H, W): 0 where nothing arrived


@dataclass(frozen=True)
class Forecaster:
    """A network and what it was made for."""

    network: nn.Module
    recipe: ForecastRecipe
    device: torch.device

    @torch.no_grad()
    def forecast(
        self, sequences: Sequence[FrameSequence], windows: Sequence[tuple[int, int]], *, one_view: bool = False
    ) -> Iterator[Forecast]:
        """The forecasts of windows, (sequence, first frame) each, a batch at a time.

        Each is the mean of those of the window mirrored and turned as in training, or with one_view that as it is.
        """
        recipe = self.recipe
        self.network.eval()
        for begin in range(0, len(windows), recipe.batch):
            chosen = windows[begin : begin + recipe.batch]
            frames, motion = batch_of(sequences, chosen, recipe, length=recipe.past)
            frames, motion = frames.to(self.device), None if motion is None else motion.to(self.device)
            answers = [self._answer(frames, motion, view) for view in views("none" if one_view else recipe.augment)]
            answer = torch.stack(answers).mean(dim=0)
            floor = see(frames, motion, recipe).moved.expand_as(answer)
            yield Forecast(_as_array(answer), _as_array(floor))

    def _answer(self, frames: Tensor, motion: Tensor | None, view: Symmetry) -> Tensor:
        """(B, T, C, H, W) uint8 and (B, T, 2, H, W) → (B, T', C, H, W), between 0 and 1"""
        seen = see(view.frames(frames), None if motion is None else view.motion(motion), self.recipe)
        return view.back(self.network(seen.past, seen.moved, seen.arrived).float().clamp(0, 1))


def batch_of(
    sequences: Sequence[FrameSequence], windows: Sequence[tuple[int, int]], recipe: ForecastRecipe, *, length: int
) -> tuple[Tensor, Tensor | None]:
    """`length` frames of each window, (B, T, C, H, W) uint8; with flow its past's velocities, (B, T, 2, H, W)."""
    frames = np.stack([sequences[row].frames[start : start + length] for row, start in windows])
    frames = torch.from_numpy(rearrange(frames, "b t h w c -> b t c h w"))
    if not recipe.flow:
        return frames, None
    motion = torch.from_numpy(np.stack([sequences[row].motion[start : start + recipe.past] for row, start in windows]))
    motion[:, 0] = 0  # the frame before the window is not known
    return frames, motion


def see(frames: Tensor, motion: Tensor | None, recipe: ForecastRecipe) -> Seen:
    """What the network sees of the first `recipe.past` frames, (B, T, C, H, W) uint8, and their velocities."""
    past = frames[:, : recipe.past].float() / 255
    if motion is None:
        moved = past[:, -1:]
        return Seen(past, moved, torch.ones_like(moved[:, :, :1]))
    motion = motion.float()
    moved, arrived = warp_on(past, motion, steps=recipe.future)
    return Seen(torch.cat([past, motion / SPEED], dim=2), moved, arrived)


def precision(device: torch.device, *, bfloat16: bool) -> AbstractContextManager:
    """bfloat16 where it was asked for; the gradients of 2D convolutions are right in it, also on a CPU."""
    return torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()


def untrained(recipe: ForecastRecipe, *, device: str) -> Forecaster:
    """A new forecaster. Raises UserError for a recipe that cannot be, or a device that is not here."""
    place = choose_device(device)
    network = make_network(
        recipe.network,
        channels=3 if recipe.colour else 1,
        flow=recipe.flow,
        past=recipe.past,
        future=recipe.future,
        width=recipe.width,
        depth=recipe.depth,
    )
    return Forecaster(network.to(place, memory_format=torch.channels_last), recipe, place)


def save_forecaster(folder: Path, forecaster: Forecaster) -> None:
    """Write its weights, which say what they hold."""
    about = {"version": release(), "recipe": asdict(forecaster.recipe)}
    tensors = {name: value.cpu().contiguous() for name, value in forecaster.network.state_dict().items()}
    raw = save(tensors, metadata={KEY: json.dumps(about)})
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / WEIGHTS, lambda part: part.write_bytes(raw))


def load_forecaster(folder: Path, *, device: str = "auto") -> Forecaster:
    """The forecaster in a folder of `tasks.forecast train`.

    Raises UserError if there is none, or its file is damaged or of another version.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{folder} holds no forecaster: train one with python -m tasks.forecast train")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
        forecaster = untrained(ForecastRecipe(**about["recipe"]), device=device)
        forecaster.network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): train it again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say what it holds ({error}): train it again with this version") from error
    return forecaster


def _as_array(frames: Tensor) -> np.ndarray:
    return np.ascontiguousarray(rearrange(frames, "b t c h w -> b t h w c").cpu().numpy())
