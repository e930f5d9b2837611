"""Maps of what counted within each stream's input: integrated gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d
from tqdm import tqdm

from tasks.explain.clips import Clips
from tasks.windows import run

SPREAD = 12  # a map is smoothed over a twelfth of a picture's side, and over as much of the mel bands


@dataclass(frozen=True)
class Maps:
    """What each part of the inputs adds to the log-odds of a class: the mean over clips, in nepers."""

    values: dict[str, Tensor]  # stream → (N, T, H, W), summed over channels, or (N, M, T)
    odds: float  # mean log-odds of the class for the inputs
    nothing: float  # and for inputs that show nothing

    @property
    def error(self) -> float:
        """How far the maps are from adding up to `odds` less `nothing`: by completeness they would, with many steps."""
        return sum(values.double().sum().item() for values in self.values.values()) - (self.odds - self.nothing)


def log_odds(answer: Tensor, target: int) -> Tensor:
    """(N, K) probabilities → (N,) log of the class's probability over that of all others together.

    It does not saturate as the probability does, whose gradient vanishes where the model is sure.
    """
    others = torch.arange(answer.shape[1], device=answer.device) != target
    least = torch.finfo(answer.dtype).tiny
    return answer[:, target].clamp(min=least).log() - answer[:, others].sum(dim=1).clamp(min=least).log()


def integrated_gradients(clips: Clips, target: int, *, steps: int, bar: str | None = None) -> Maps:
    """What each part of the inputs adds to the log-odds of the class `target`, on the way from nothing to the inputs.

    Integrated gradients (Sundararajan et al. 2017, equation 1), by the midpoint rule with so many steps, of all streams
    at once: so all maps together add up to the change of the log-odds. Clips without any stream are left out.
    """
    nothing = clips.nothing()
    streams, count = list(clips.inputs), int(clips.answered.sum())
    ways = {name: clips.inputs[name] - nothing[name] for name in streams}
    total = {name: torch.zeros_like(way) for name, way in ways.items()}
    chunks = list(clips.chunks())
    places = [(rows, (step + 0.5) / steps) for rows in chunks for step in range(steps)]
    for rows, place in tqdm(places, desc=bar, unit="step", leave=False, disable=None if bar else True):
        at = {name: (nothing[name][rows] + place * ways[name][rows]).requires_grad_() for name in streams}
        _, _, answer = run(clips.network, at, {name: clips.present[name][rows] for name in streams}, gradients=True)
        odds = log_odds(answer, target)[clips.answered[rows]].sum()
        if not odds.requires_grad:  # none of these clips has any stream
            continue
        gradients = torch.autograd.grad(odds, list(at.values()), allow_unused=True)
        for name, gradient in zip(streams, gradients, strict=True):
            if gradient is not None:  # None: the stream is absent from all of them
                total[name][rows] += gradient
    values = {name: total[name] * ways[name] / (steps * max(1, count)) for name in streams}

    def mean_odds(inputs: dict[str, Tensor]) -> float:
        return log_odds(clips.answers(inputs), target)[clips.answered].sum().item() / max(1, count)

    return Maps(
        {name: value.sum(dim=1) if value.ndim == 5 else value for name, value in values.items()},
        odds=mean_odds(clips.inputs),
        nothing=mean_odds(nothing),
    )


def smoothed(values: Tensor) -> Tensor:
    """A map without its grain: means over a small part of a picture, or of the sound, twice: the same shape.

    Gradients of neighbouring pixels differ wildly; where a map is strongest is a place, not a pixel.
    """
    if values.ndim == 4:
        side = _odd(values.shape[-1] / SPREAD)
        kernel = (3, side, side)
    else:
        kernel = (1, _odd(values.shape[1] / SPREAD), _odd(values.shape[2] / (4 * SPREAD)))
    kernel = tuple(min(one, size - 1 + size % 2) for one, size in zip(kernel, _cube(values).shape[-3:], strict=True))
    found = _cube(values)
    for _ in range(2):
        found = avg_pool3d(found, kernel, 1, [size // 2 for size in kernel], count_include_pad=False)
    return found.reshape(values.shape)


def over_time(values: Tensor) -> Tensor:
    """The sum of a map over all but time: (N, T, H, W) or (N, M, T) → (N, T)"""
    return values.sum(dim=(2, 3)) if values.ndim == 4 else values.sum(dim=1)


def _cube(values: Tensor) -> Tensor:
    """(N, T, H, W) or (N, M, T) → (N, 1, …) with three axes more"""
    return values[:, None] if values.ndim == 4 else values[:, None, None]


def _odd(size: float) -> int:
    """The nearest odd number, at least 1."""
    return max(1, int(size / 2) * 2 + 1)
