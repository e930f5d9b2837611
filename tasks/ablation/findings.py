"""Findings of an ablation, from the videos that each model got right."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from streams.registry import subset_name, subsets
from tasks.audit import Audit
from tasks.bootstrap import paired_bootstrap
from tasks.shapley import shapley

METHODS = {
    "trained": "trained on these",
    "joint": "model of all, rest taken away",
    "mean": "mean of separate models",
    "weighted": "weighted mean, fitted",
    "stacked": "stacked, fitted",
}


@dataclass(frozen=True)
class Difference:
    """The fused model less one of its controls, in shares of the videos."""

    fused: str
    control: str
    points: list[float]  # of each seed
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Missing:
    """Top-1 of the model of all streams where one is missing from none of the videos, half or all, for each seed."""

    missing: str
    none: list[float]
    half: list[float]
    all: list[float]
    trained: list[float] | None  # the model that was trained on the others alone


@dataclass(frozen=True)
class Ablation:
    """The findings of an ablation: ablation.json."""

    data: str
    which: str  # the judged videos, in a sentence
    seeds: str
    chance: float
    ceilings: dict[str, float]
    top1: dict[str, dict[str, list[float]]]  # method → subset → of each seed
    best_single: str | None
    chosen_on: str  # where the best single stream was chosen
    fitted_on: str  # where the fitted controls were
    empty: float  # top-1 of who sees and hears nothing
    shapley: dict[str, dict[str, list[float]]]  # method → stream → of each seed
    differences: list[Difference]
    missing: list[Missing]
    bootstrap_by: str
    audit: Audit


Rights = dict[str, dict[str, np.ndarray]]  # method → subset → (seeds, N) bool


def top1s(rights: Rights) -> dict[str, dict[str, list[float]]]:
    """Method → subset → the top-1 of each seed."""
    return {
        method: {name: right.mean(axis=1).tolist() for name, right in found.items()} for method, found in rights.items()
    }


def best_single(tops: dict[str, list[float]], streams: Sequence[str]) -> str | None:
    """The stream that is best alone, on average over the seeds; None if none was trained alone."""
    known = [name for name in streams if name in tops]
    return max(known, key=lambda name: sum(tops[name]), default=None)


def values_of_streams(
    tops: dict[str, dict[str, list[float]]], streams: Sequence[str], empty: float
) -> dict[str, dict[str, list[float]]]:
    """Method → stream → its Shapley value for each seed, for the methods that have every subset.

    `empty` is the top-1 without any stream.
    """
    names = [*map(subset_name, subsets(streams))]
    found: dict[str, dict[str, list[float]]] = {}
    for method in ("trained", "joint"):
        if not all(name in tops[method] for name in names):
            continue
        found[method] = {stream: [] for stream in streams}
        for seed in range(len(tops[method][names[0]])):
            worth = {frozenset(subset): tops[method][subset_name(subset)][seed] for subset in subsets(streams)}
            for stream, value in shapley(worth | {frozenset(): empty}, streams).items():
                found[method][stream].append(value)
    return found


def differences(
    rights: Rights, singles: dict[str, list[float]], streams: Sequence[str], units: Sequence[int]
) -> list[Difference]:
    """The largest subsets that were trained, less each of their controls, with an interval.

    `singles` are the top-1 for choosing the best single stream. The interval is for these trained models, all seeds
    together, on other videos: the same units are drawn for all of them. The standard deviation is that over seeds.
    """
    trained = [subset for subset in subsets(streams) if subset_name(subset) in rights["trained"]]
    largest = [a for a in trained if len(a) > 1 and not any({*a} < {*b} for b in trained)]
    rows = []
    for subset in largest:
        fused = subset_name(subset)
        best = best_single(singles, subset)
        controls = [(f"best single stream ({best})", "trained", best)]
        controls += [(METHODS[method], method, fused) for method in ("mean", "weighted", "stacked")]
        fewer = [subset_name(other) for other in trained if 1 < len(other) == len(subset) - 1 and {*other} < {*subset}]
        controls += [(f"model trained on {name}", "trained", name) for name in fewer]
        for control, method, name in controls:
            if name not in rights[method]:
                continue
            points = rights["trained"][fused].astype(float) - rights[method][name]
            interval = paired_bootstrap(points.mean(axis=0), units)
            rows.append(Difference(fused, control, points.mean(axis=1).tolist(), **asdict(interval)))
    return rows


def when_missing(tops: dict[str, dict[str, list[float]]], streams: Sequence[str]) -> list[Missing]:
    """The loss of the model of all streams where one of them is missing; for each stream the top-1 of each seed.

    If it is missing in a random half of the videos, the top-1 is the mean of those with and without it, the expectation
    over draws. `trained` is the model trained on the others alone, if there is one.
    """
    whole = tops["joint"].get(subset_name(streams))
    rows = []
    for stream in streams if whole and len(streams) > 1 else ():
        others = subset_name([name for name in streams if name != stream])
        without = tops["joint"][others]
        half = [(one + other) / 2 for one, other in zip(whole, without, strict=True)]
        rows.append(Missing(stream, whole, half, without, tops["trained"].get(others)))
    return rows
