"""Sequences of frames to forecast: from arrays, stores and videos, of one size, with their velocities."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError
from preprocess.store import Store
from tasks.forecasting.settings import ForecastRecipe
from tasks.forecasting.warp import velocities
from tasks.sources import files_of, is_store

BLOCK = 256  # frames of a store in memory at their full size
FINER = 4  # times the size of forecasts at which videos are decoded, so that the last step is a mean over areas


@dataclass(frozen=True)
class FrameSequence:
    """The frames of one video, and how its pixels move."""

    name: str
    frames: np.ndarray  # (T, H, W, C) uint8
    motion: np.ndarray | None  # (T, 2, H, W) float16 pixels a frame, from the frame before; None without flow
    fps: float

    def __len__(self) -> int:
        return len(self.frames)


def read_sequences(paths: Iterable[Path], recipe: ForecastRecipe, *, bar: str | None = None) -> list[FrameSequence]:
    """All sequences of .npz files, stores, videos and folders of them.

    Raises UserError for what cannot be read, or holds no frames.
    """
    found = []
    with progress(unit="sequence", name=bar or "", leave=False, hidden=bar is None) as shown:
        for path in paths:
            for name, frames, fps in _frames(path, recipe):
                motion = None
                if recipe.flow:
                    motion = velocities(as_grey(frames)[..., 0]).astype(np.float16)
                found.append(FrameSequence(name, frames, motion, fps))
                shown.update()
    if not found:
        raise UserError("no sequence named: give .npz files, stores, videos or folders of them")
    return found


def windows_of(
    sequences: Sequence[FrameSequence], recipe: ForecastRecipe, *, hop: int, future: int | None = None
) -> list[tuple[int, int]]:
    """(sequence, first frame) of all windows of past and future frames.

    Raises UserError if every sequence is too short.
    """
    length = recipe.past + (recipe.future if future is None else future)
    found = [
        (row, start) for row, sequence in enumerate(sequences) for start in range(0, len(sequence) - length + 1, hop)
    ]
    if not found:
        longest = max(map(len, sequences))
        raise UserError(
            f"a window has {length} frames, and the longest of {plural(len(sequences), 'sequence')} {longest}: "
            "give longer ones, or train with fewer --past and --future"
        )
    return found


def as_grey(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, C) uint8 → (T, H, W, 1) uint8, by BT.601's luminance."""
    if frames.shape[-1] == 1:
        return frames
    return np.rint(frames @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]


def _frames(path: Path, recipe: ForecastRecipe) -> Iterator[tuple[str, np.ndarray, float]]:
    if path.suffix == ".npz":
        yield from _of_arrays(path, recipe)
    elif is_store(path):
        yield from _of_store(Store(path), recipe)
    else:
        for file in files_of(path):
            yield str(file), _of_video(Path(str(file)), recipe), recipe.fps


def _of_arrays(path: Path, recipe: ForecastRecipe) -> Iterator[tuple[str, np.ndarray, float]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames = arrays["frames"]
    except (BadZipFile, ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is no readable .npz file: {error}") from error
    except KeyError as error:
        raise UserError(f"{path} has no array 'frames': save frames (N, T, H, W) under that name") from error
    if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or (frames.ndim == 5 and frames.shape[4] != 3):
        raise UserError(
            f"{path}: frames are {frames.dtype} {frames.shape}, wanted uint8 (N, T, H, W) or (N, T, H, W, 3)"
        )
    if not frames.size:
        raise UserError(f"{path}: frames are empty, {frames.shape}")
    for number, one in enumerate(frames):
        yield f"{path.name}:{number}", _fitted(one if one.ndim == 4 else one[..., None], recipe), recipe.fps


def _of_store(store: Store, recipe: ForecastRecipe) -> Iterator[tuple[str, np.ndarray, float]]:
    for video in store.videos:
        if not video.streams.get("rgb"):
            continue
        parts = [
            _fitted(store.frames(video, "rgb", range(begin, min(video.frames, begin + BLOCK))), recipe)
            for begin in range(0, video.frames, BLOCK)
        ]
        yield video.path, np.concatenate(parts), store.fps


def _of_video(file: Path, recipe: ForecastRecipe) -> np.ndarray:
    from preprocess.common.stopwatch import Stopwatch
    from preprocess.video.decoded import Frame
    from preprocess.video.decoder import Decoder  # needs PyAV, which a machine that only trains may lack
    from preprocess.video.limits import Unusable

    if not file.is_file():
        raise UserError(f"there is no file {file}")
    found = []
    try:
        for item in Decoder(str(file), fps=recipe.fps, short_side=FINER * recipe.size, watch=Stopwatch()):
            if isinstance(item, Frame):
                found += [_fitted(item.rgb[None], recipe)] * item.count
    except Unusable as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    return np.concatenate(found)


def _fitted(frames: np.ndarray, recipe: ForecastRecipe) -> np.ndarray:
    """(T, H, W, C) uint8 → (T, size, size, 1 or 3) uint8."""
    if not recipe.colour:
        frames = as_grey(frames)
    elif frames.shape[-1] == 1:
        frames = np.repeat(frames, 3, axis=-1)
    if frames.shape[1:3] == (recipe.size, recipe.size):
        return frames
    import cv2

    side = (recipe.size, recipe.size)
    resized = [cv2.resize(np.ascontiguousarray(one), side, interpolation=cv2.INTER_AREA) for one in frames]
    return np.stack(resized).reshape(len(frames), *side, frames.shape[-1])
