"""Inputs as pictures, with and without heat, on the clock of their video."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from preprocess.show import flow_to_rgb
from tasks.explain.explain import Explanation
from tasks.explain.maps import smoothed

FULL_COLOUR = 1.5  # of flow as a tower is given it, which is squashed
STRONG = 0.995  # quantile of a map's strength that is drawn in full
MORE, LESS = np.array([1.0, 0.16, 0.05]), np.array([0.1, 0.3, 1.0])  # heat that speaks for the class, and against it
COVER = 0.75  # of what lies under the strongest heat
DIM, GREY = 0.7, 0.5  # brightness of what has heat over it, and how much of its colour it loses


@dataclass(frozen=True)
class Drawn:
    """A stream's input in the order of time: S steps of pictures, (S, H, W, 3), or of bands, (S, M, 3), in 0…1."""

    seconds: np.ndarray  # (S,) the middles of the steps
    step: float  # seconds from one to the next
    plain: np.ndarray
    heat: np.ndarray  # the same with its map over it


def draw_stream(found: Explanation, stream: str) -> Drawn:
    """The clips' steps, the ones after the others; where clips overlap, steps alternate."""
    clips = found.clips
    there = clips.present[stream]
    moments = clips.moments[stream][there].flatten().cpu().numpy()
    inside = np.flatnonzero((moments >= 0) & (moments <= found.seconds))
    order = inside[np.argsort(moments[inside], kind="stable")]
    seconds, first = np.unique(moments[order], return_index=True)  # a moment that several clips show is drawn once
    order = order[first]
    plain = _in_steps(clips.inputs[stream][there])[order]
    maps = _map_in_steps(smoothed(found.maps.values[stream])[there])[order]
    plain = _colours(plain)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else found.seconds
    return Drawn(seconds, step, plain, _heated(plain, maps, most=_weight(found, stream)))


def _weight(found: Explanation, stream: str) -> float:
    """How much is in a stream's map, of what is in the fullest one: a stream that hardly counts is hardly red."""
    amounts = {name: found.maps.values[name].abs().sum().item() for name in found.shares}
    return amounts[stream] / (max(amounts.values()) or 1.0)


def on_the_clock(drawn: Drawn, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Bands as images over all of the video, (M, columns, 3), plain and with heat; grey where no clip is."""
    columns = max(1, round(seconds / drawn.step))
    images = []
    for steps in (drawn.plain, drawn.heat):
        image = np.full((steps.shape[1], columns, 3), 0.6)
        image[:, np.minimum((drawn.seconds / drawn.step).astype(int), columns - 1)] = np.moveaxis(steps, 0, 1)
        images.append(image[::-1])  # low bands below
    return images[0], images[1]


def nearest(drawn: Drawn, time: float, reach: float) -> int | None:
    """The step nearest to a time, or None if none is within `reach` seconds."""
    at = int(np.abs(drawn.seconds - time).argmin())
    return at if abs(drawn.seconds[at] - time) <= reach else None


def _in_steps(values: Tensor) -> np.ndarray:
    """(N, C, T, H, W) → (N T, H, W, C), (N, M, T) → (N T, M)"""
    order = (0, 2, 3, 4, 1) if values.ndim == 5 else (0, 2, 1)
    return values.permute(order).flatten(0, 1).cpu().numpy()


def _map_in_steps(values: Tensor) -> np.ndarray:
    """(N, T, H, W) → (N T, H, W), (N, M, T) → (N T, M)"""
    return (values if values.ndim == 4 else values.transpose(1, 2)).flatten(0, 1).cpu().numpy()


def _colours(steps: np.ndarray) -> np.ndarray:
    """Three channels are a picture, two are motion, bands are their loudness."""
    if steps.ndim == 2:
        from matplotlib import colormaps

        low, high = np.quantile(steps, [0.02, 0.999]) if steps.size else (0, 1)
        return colormaps["gray"]((steps - low) / max(high - low, 1e-6))[..., :3]
    if steps.shape[-1] == 2:
        return flow_to_rgb(steps, full=FULL_COLOUR)
    return (steps / 2 + 0.5).clip(0, 1)


def _heated(plain: np.ndarray, maps: np.ndarray, *, most: float) -> np.ndarray:
    """Red where the map is positive, blue where it is negative; all of a stream on one scale, up to `most`."""
    full = np.quantile(np.abs(maps), STRONG) if maps.size else 0.0
    strength = most * (np.abs(maps) / (full or 1.0)).clip(0, 1)[..., None]
    colour = np.where(maps[..., None] > 0, MORE, LESS)
    under = DIM * (plain + GREY * (plain.mean(axis=-1, keepdims=True) - plain))
    return under * (1 - COVER * strength) + colour * COVER * strength
