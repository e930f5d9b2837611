"""What a class loses when a stretch of one stream shows nothing, over the time of the video."""

import numpy as np
import torch
from torch import Tensor

from tasks.explain.clips import Clips
from tasks.explain.maps import Maps, over_time

STRETCHES = 24  # of a video, at most


def time_edges(clips: Clips, seconds: float) -> np.ndarray:
    """(E + 1,) seconds from 0 to the end: where the video is cut into stretches, none shorter than a stream's step."""
    step = max((_step(moments) for moments in clips.moments.values()), default=seconds)
    count = int(min(STRETCHES, max(1, seconds // step))) if step else 1
    return np.linspace(0, seconds, count + 1)


def occlusion(clips: Clips, target: int, edges: np.ndarray) -> dict[str, np.ndarray]:
    """stream → (E,) how much probability the class has less when the stream shows nothing between two edges.

    Zeiler and Fergus 2014, section 4.2, over time instead of over places.
    """

    def probability(answers: Tensor) -> float:
        return answers[clips.answered, target].mean().item()

    found = {}
    for name in clips.streams:
        which = stretches(clips.moments[name], edges)
        none = torch.zeros_like(which, dtype=torch.bool)
        all_of_it = probability(clips.answers_without(name, none))
        drops = [all_of_it - probability(clips.answers_without(name, which == at)) for at in range(len(edges) - 1)]
        found[name] = np.array(drops)
    return found


def relevance(clips: Clips, maps: Maps, edges: np.ndarray) -> dict[str, np.ndarray]:
    """stream → (E,) what the maps add up to between two edges, in nepers."""
    found = {}
    for name in clips.streams:
        which = stretches(clips.moments[name], edges).flatten().cpu().numpy()
        sums = over_time(maps.values[name]).double().flatten().cpu().numpy()
        found[name] = np.bincount(which, sums, minlength=len(edges) - 1)
    return found


def stretches(moments: Tensor, edges: np.ndarray) -> Tensor:
    """(N, T) seconds → the number of the stretch that each lies in; what lies outside counts to the nearest one."""
    inner = torch.from_numpy(edges[1:-1]).to(moments.device)
    return torch.bucketize(moments.contiguous(), inner, right=True)


def _step(moments: Tensor) -> float:
    """Seconds from one step to the next."""
    return float((moments[:, 1:] - moments[:, :-1]).abs().median()) if moments.shape[1] > 1 else 0.0
