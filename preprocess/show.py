"""Draw one video of a store: its frames, its flow and its sound on one time axis.

    python -m preprocess.show out.h5 v_Archery_g08_c01          # any part of its path that is unique
    python -m preprocess.show out.h5 v_Archery_g08_c01 --out archery.jpg

For a stream that the video lacks, the reason is shown.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.figures import as_drawn, figure_file, format_of
from preprocess.store import Store
from preprocess.store.codec import dequantise_flow
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import Video
from preprocess.store.kinds import KINDS

COLUMNS = 8  # frames and flow fields that are drawn
FULL_COLOUR = 4.0  # pixels a frame: full colour is this speed, or the video's fastest motion if that is more


@dataclass(frozen=True)
class ShowSettings:
    """The command line of preprocess.show."""

    store: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """the store, for instance out.h5"""
    video: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """the video's path in the store, or a part of it that no other has"""
    out: Path | None = None
    """picture to write, .png, .jpg or .webp; the default is a PNG of the video's name, in the current folder"""


def flow_to_rgb(flow: np.ndarray, *, full: float) -> np.ndarray:
    """flow: (..., 2), pixels a frame → (..., 3) in 0…1: hue is the direction, saturation the speed up to `full`."""
    from matplotlib.colors import hsv_to_rgb

    hue = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) % 1.0
    speed = np.clip(np.linalg.norm(flow, axis=-1) / full, 0, 1)
    return hsv_to_rgb(np.stack([hue, speed, np.ones_like(hue)], axis=-1))


def draw(store: Store, video: Video, path: Path) -> None:
    """Write the picture. For an absent stream, the reason is shown.

    Raises UserError for a suffix that stands for no format.
    """
    width = 1.6 * COLUMNS
    row = width / COLUMNS * min(1.8, video.height / video.width)
    label = f" · {video.label}" if video.label else ""
    name = as_drawn(f"{video.path}{label}")
    with figure_file(path, size=(width, 2 * row + 3.0), dpi=110, names=name) as figure:
        figure.suptitle(f"{name} · {video.seconds:.2f} s, {video.width}×{video.height} at {store.fps:g} fps")
        axes = figure.subplots(3, 1, sharex=True, height_ratios=[row, row, 2.2])
        _draw_streams(*axes, store, video)


def _draw_streams(pictures, motion, sound, store: Store, video: Video) -> None:
    columns = min(COLUMNS, video.frames)
    step = video.seconds / columns
    times = (np.arange(columns) + 0.5) * step
    at = np.minimum((times * store.fps).astype(int), video.frames - 1)
    frames = store.frames(video, "rgb", at)
    _strip(pictures, frames, times, step, "frames")
    if video.streams["flow"]:
        flow = np.moveaxis(
            dequantise_flow(store.frames(video, "flow", np.minimum(at, KINDS["flow"].number(video.frames) - 1))), 1, -1
        )
        full = max(FULL_COLOUR, float(np.quantile(np.linalg.norm(flow, axis=-1), 0.995)))
        _strip(motion, flow_to_rgb(flow, full=full), times, step, f"flow, full colour is {full:.1f} pixels a frame")
        _wheel(motion)
    else:
        _absent(motion, "flow", video.why["flow"])
    if video.streams["audio"]:
        mel = store.mel(video, 0, round(video.seconds * MEL_RATE)).astype(np.float32)
        image = sound.imshow(
            mel.T, origin="lower", aspect="auto", extent=(0, video.seconds, 0, mel.shape[1]), cmap="magma", vmin=SILENCE
        )
        sound.figure.colorbar(image, ax=sound, label="ln power", fraction=0.02, pad=0.01)
        sound.set(ylabel="mel band", title="log-mel")
    else:
        _absent(sound, "audio", video.why["audio"])
    sound.set(xlabel="seconds", xlim=(0, video.seconds))


def _strip(axes, images: np.ndarray, times: np.ndarray, step: float, title: str) -> None:
    """Draw images side by side, each centred on the interval of time that it stands for."""
    for image, time in zip(images, times, strict=True):
        axes.imshow(image, extent=(time - 0.48 * step, time + 0.48 * step, 0, 1), aspect="auto")
    axes.set(ylim=(0, 1), yticks=[], title=title, facecolor="0.6")  # grey between pictures: flow of no motion is white


def _wheel(axes) -> None:
    """Draw the colours of all directions."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    wheel = flow_to_rgb(np.stack([x, y], axis=-1), full=1.0)
    inset = axes.inset_axes((1.01, 0.55, 0.05, 0.45))
    inset.imshow(np.concatenate([wheel, (np.hypot(x, y) <= 1)[..., None]], axis=-1))
    inset.axis("off")


def _absent(axes, stream: str, why: str) -> None:
    axes.text(0.5, 0.5, f"no {stream}: {why}", transform=axes.transAxes, ha="center", va="center", color="grey")
    axes.set(yticks=[], title=stream)


def main(settings: ShowSettings | None = None) -> None:
    settings = settings or parse_command(ShowSettings, prog="python -m preprocess.show", doc=__doc__)
    if settings.out:
        format_of(settings.out)  # before anything is read
    store = Store(settings.store)
    video = store.find(settings.video)
    out = settings.out or Path(Path(video.path).stem + ".png")
    draw(store, video, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    run_command(main)
