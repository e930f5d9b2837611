"""Forecasts to look at: a strip of pictures a window, and a film of truth, forecast and floor side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from einops import rearrange

from preprocess.common.figures import as_drawn, figure_file
from preprocess.common.files import write_aside

LARGE = 256  # pixels of a side in the film, about; whole multiples keep the pixels of forecasts visible
GAP = 8  # pixels between them
LINE = 2  # pixels between the frames of a picture


@dataclass(frozen=True)
class Shown:
    """One window: frames (T, H, W, C) between 0 and 1."""

    name: str
    past: np.ndarray
    truth: np.ndarray | None  # None where the video ends before
    forecast: np.ndarray
    floor: np.ndarray


def write_strip(path: Path, shown: Shown, *, floor: str) -> None:
    """The past, and below it truth, forecast and floor, frame under frame."""
    rows = {"past": shown.past, "truth": shown.truth, "forecast": shown.forecast, floor: shown.floor}
    rows = {name: frames for name, frames in rows.items() if frames is not None}
    columns = max(map(len, rows.values()))
    side = shown.forecast.shape[1] + LINE
    lines = []
    for frames in rows.values():
        padded = np.pad(frames, ((0, columns - len(frames)), (0, LINE), (0, LINE), (0, 0)), constant_values=1)
        lines.append(rearrange(np.broadcast_to(padded, (*padded.shape[:3], 3)), "t h w c -> h (t w) c"))
    grid = np.concatenate(lines)
    with figure_file(path, size=(0.9 * columns + 1, 0.9 * len(rows) + 0.3), dpi=100, names=shown.name) as figure:
        axes = figure.add_subplot()
        axes.imshow(grid, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([(row + 0.5) * side for row in range(len(rows))], list(rows))
        axes.tick_params(length=0)
        for edge in axes.spines.values():
            edge.set_visible(False)
        axes.set_title(as_drawn(shown.name), fontsize=8)


def write_film(path: Path, windows: list[Shown], *, fps: float) -> None:
    """An .mp4 of the windows one after the other.

    Raises UserError if no encoder is here.
    """
    from tasks.film.writing import (  # PyAV, which a machine that only trains may lack
        film_frame,
        film_streams,
        open_film,
    )

    def write(part: Path) -> None:
        pictures = (picture for one in windows for picture in side_by_side(one))
        rate, video = Fraction(fps).limit_denominator(1001), None
        with open_film(part) as film:
            for number, picture in enumerate(pictures):
                if video is None:
                    video, _ = film_streams(film, picture, rate, channels=0)
                film.mux(video.encode(film_frame(picture, video, number)))
            film.mux(video.encode(None))

    write_aside(path, write)


def side_by_side(shown: Shown) -> Iterator[np.ndarray]:
    """Pictures (H, W, 3) uint8: truth, forecast, floor; the borders are bright while it is the past that is shown."""
    truth = np.zeros_like(shown.forecast) if shown.truth is None else shown.truth
    for frame in shown.past:
        yield _joined([frame] * 3, border=160)
    for frames in zip(truth, shown.forecast, shown.floor, strict=True):
        yield _joined(list(frames), border=0)


def _joined(frames: list[np.ndarray], *, border: int) -> np.ndarray:
    factor = max(1, round(LARGE / frames[0].shape[0]))
    framed = []
    for frame in frames:
        pixels = np.broadcast_to(np.rint(frame * 255).astype(np.uint8), (*frame.shape[:2], 3))
        large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
        framed.append(np.pad(large, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=border))
    return np.concatenate(framed, axis=1)
