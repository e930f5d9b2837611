"""The explanation of a model's answer for one video."""

from dataclasses import dataclass, field

import numpy as np
import torch

from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from preprocess.store.index import Video
from streams.geometry import centre_crop
from streams.registry import subsets
from tasks.explain.check import Check, check
from tasks.explain.clips import Clips, clips_of
from tasks.explain.maps import Maps, integrated_gradients, over_time, smoothed
from tasks.explain.occlusion import occlusion, relevance, time_edges
from tasks.model import Model
from tasks.prediction import mean_answer, ranked
from tasks.shapley import shares

SHOWN = 12  # names of classes in a message


@dataclass(frozen=True)
class Peak:
    """Where a stream's map is strongest."""

    seconds: float
    x: float | None  # share of the frame's width, from the left; None of sound
    y: float | None  # share of its height, from above


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a model gives one class its probability for one video: the mean over N clips, E stretches of time."""

    video: str
    seconds: float
    label: str  # the class that is explained
    probability: float
    classes: dict[str, float]  # class → probability, from the likeliest on
    chance: float  # 1 / K, what is left without any stream
    shares: dict[str, float]  # stream → its Shapley value; with `chance` they add up to `probability`
    alone: dict[str, float]  # stream → the class's probability from it alone
    missing: dict[str, str]  # stream → the reason for its absence
    odds: float  # mean log-odds of the class, in nepers, which the maps explain
    odds_of_nothing: float  # those for mid-grey, still and silent clips
    error: float  # how far the maps are from adding up to the difference
    edges: list[float]  # (E + 1,) seconds
    occlusion: dict[str, list[float]]  # stream → (E,) probability that the class loses without this stretch of it
    relevance: dict[str, list[float]]  # stream → (E,) the maps' sums, nepers
    times: list[list[float]]  # (N, 2) seconds of the clips
    shares_over_time: dict[str, list[float]]  # stream → (N,) its share of the class's probability in each clip
    peaks: dict[str, Peak]  # stream → where its map is strongest
    check: Check | None
    clips: Clips = field(repr=False)
    maps: Maps = field(repr=False)

    @property
    def totals(self) -> dict[str, float]:
        """stream → what its map adds up to, in nepers."""
        return {name: sum(values) for name, values in self.relevance.items()}


def explain(
    model: Model,
    store: Store,
    video: Video,
    *,
    label: str | None = None,
    streams: str | None = None,
    views: int = 5,
    steps: int = 32,
    measure: bool = False,
    name: str | None = None,
    bar: str | None = None,
) -> Explanation:
    """Explain what the model says of a stored video, as the mean over `views` clips.

    Args:
        label: the class to explain; the likeliest without it.
        streams: only these, as if the video had no others.
        steps: of the integrated gradients.
        measure: also `check` the maps.
        name: of the video, for people.
        bar: name of progress bars, on a terminal.

    Raises:
        UserError: a model without classes, an unknown class or stream, a video that has none of the streams.
    """
    at_least(1, views=views, steps=steps)
    model.check_classifier()
    chosen = model.choose(streams)
    model.check_streams(video, chosen)
    if label is not None:
        check_class(model, label)
    found = model.clips(store, [video], views=views, names=[name or video.path], batch=4, gradients=True)
    clips = clips_of(model.network, [model.fuse(part, chosen) for part in found], model.parameters)
    fused = {frozenset(names): [model.fuse(part, names) for part in clips.parts] for names in subsets(chosen)}
    answers = {names: torch.cat([part.answer for part in parts]) for names, parts in fused.items()}
    mean = {names: mean_answer(parts)[None] for names, parts in fused.items()}
    answer = mean[frozenset(chosen)][0]
    target = int(answer.argmax()) if label is None else model.classes.index(label)
    shared = shares(mean, torch.tensor([target], device=answer.device), chosen)
    over = shares(answers, torch.full((len(clips),), target, device=answer.device), chosen)
    there = [one for one in chosen if one in clips.streams]
    edges = time_edges(clips, video.seconds)
    maps = integrated_gradients(clips, target, steps=steps, bar=bar and f"{bar}: maps")
    return Explanation(
        video=name or video.path,
        seconds=video.seconds,
        label=model.classes[target],
        probability=answer[target].item(),
        classes=ranked(answer, model.classes),
        chance=1 / len(model.classes),
        shares={one: shared[one].item() for one in there},
        alone={one: mean[frozenset([one])][0, target].item() for one in there},
        missing={one: video.why.get(one, "not in any clip") for one in chosen if one not in there},
        odds=maps.odds,
        odds_of_nothing=maps.nothing,
        error=maps.error,
        edges=edges.tolist(),
        occlusion={one: values.tolist() for one, values in occlusion(clips, target, edges).items()},
        relevance={one: values.tolist() for one, values in relevance(clips, maps, edges).items()},
        times=clips.times.tolist(),
        shares_over_time={one: over[one].tolist() for one in there},
        peaks={one: peak(clips, maps, video, one, model.clip.of(one).size) for one in there},
        check=check(clips, maps, target, steps=steps, bar=bar and f"{bar}: random weights") if measure else None,
        clips=clips,
        maps=maps,
    )


def check_class(model: Model, label: str) -> None:
    """Raises UserError if the model does not know the class."""
    if label not in model.classes:
        known = ", ".join(model.classes[:SHOWN]) + (" …" if len(model.classes) > SHOWN else "")
        raise UserError(f"{model.path} knows no class '{label}': its classes are {known}")


def peak(clips: Clips, maps: Maps, video: Video, stream: str, size: int) -> Peak:
    """Where and when a smoothed map is strongest; the moment is that of the strongest step, the place that of it.

    size: pixels of a side of the stream's pictures.
    """
    values = smoothed(maps.values[stream])
    clip, step = divmod(int(over_time(values).argmax()), clips.moments[stream].shape[1])
    seconds = clips.moments[stream][clip, step].item()
    if values.ndim != 4:
        return Peak(seconds, None, None)
    row, column = divmod(int(values[clip, step].argmax()), values.shape[-1])
    crop = centre_crop(video.height, video.width, size)
    x, y = np.linalg.solve(crop.map[:, :2], np.array([column, row]) - crop.map[:, 2])
    rows, columns = crop.window
    return Peak(seconds, float(x + columns.start + 0.5) / video.width, float(y + rows.start + 0.5) / video.height)


def as_object(found: Explanation) -> dict:
    """What is printed as JSON: everything but the clips and the maps."""
    plain = {name: value for name, value in vars(found).items() if name not in ("clips", "maps", "peaks", "check")}
    plain |= {"totals": found.totals, "peaks": {one: vars(place) for one, place in found.peaks.items()}}
    if found.check is not None:
        plain["check"] = {
            "similarity": found.check.similarity,
            "depends_on_weights": found.check.depends_on_weights,
            "curves": vars(found.check.curves),
            "areas": found.check.curves.areas,
            "finds_what_counts": found.check.finds_what_counts,
        }
    return plain
