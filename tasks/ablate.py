"""Find what each stream is worth: train every subset of the streams, and compare.

    python -m tasks.ablate --data out.h5                              # 7 subsets, one seed
    python -m tasks.ablate --data out.h5 --seeds 3 --epochs 20        # mean ± standard deviation
    python -m tasks.ablate --data out.h5 --subsets rgb flow rgb+flow

The models trained on each subset are compared with controls: the model of all streams with the others hidden, the best
single stream, and models trained on one stream each, combined by their mean, by a fitted weighted mean and by stacking.
Also reported: each stream's worth (Shapley values), the lead of fusion over each control (paired bootstrap intervals),
and an audit of the split.

After an interruption, the same command goes on. A run's folder is named after everything that decides its result: runs
with other settings get other folders, existing runs are used again, and ablations with the same --runs share them.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fusion.model import build_model
from fusion.training.datasets import check_presence
from fusion.training.run import write_json
from fusion.training.settings import Recipe, need_classes
from fusion.training.teacher import load_teacher
from fusion.training.transfer import initialise
from preprocess.common.command import parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from streams.registry import parse_streams, streams_of, subset_name, subsets
from streams.split import Split, split_videos
from tasks.ablation.controls import (
    FITTERS,
    cross_fitted_probabilities,
    fitted_probabilities,
    mean_probabilities,
)
from tasks.ablation.figures import plot_ablation
from tasks.ablation.findings import METHODS, Ablation, best_single, differences, top1s, values_of_streams, when_missing
from tasks.ablation.runs import trained_run
from tasks.ablation.tables import csv_text, latex, markdown, tables
from tasks.audit import Audit, audit_split, print_audit
from tasks.bootstrap import units_of
from tasks.folder import output_folder
from tasks.probabilities import Probabilities, write_predictions
from tasks.run import Run, choose_videos, load_run
from tasks.settings import AblateSettings

FILES = ("table.md", "table.csv", "table.tex", "ablation.png", "predictions.csv", "ablation.json")


@dataclass(frozen=True)
class TestVideos:
    """The videos that all models are judged on, and those on which controls are chosen and fitted."""

    videos: list[Video]
    which: str  # a sentence about the choice of videos
    labels: torch.Tensor  # (N,)
    units: list[int]  # (N,): videos of one unit are resampled together
    held: list[Video]  # the validation videos; empty if these are judged themselves
    held_labels: torch.Tensor


@dataclass(frozen=True)
class Judged:
    """Results of one seed's models."""

    judging: TestVideos
    answers: dict[str, dict[str, Probabilities]]  # method → subset → for the judged videos
    singles: dict[str, float]  # stream → the top-1 for choosing the best single stream


def ablate(settings: AblateSettings) -> Ablation:
    """Train what is not trained yet, judge everything on the same videos, write and return the result.

    The videos are the store's test videos if the labels named some; then the controls are chosen and fitted on the
    validation videos. Otherwise they are the validation videos. Each run's last weights are judged: those that are best
    on few validation videos are often a lucky early epoch's, and must not be judged on the same videos.
    """
    at_least(1, seeds=settings.seeds, views=settings.views)
    need_classes(settings.recipe)
    store = Store(settings.data)
    streams = parse_streams(settings.streams, streams_of(store.parameters))
    chosen = _chosen(settings, streams)
    split = split_videos(store.videos, seed=settings.recipe.split_seed, name=str(store.path))
    # report impossible settings now, not after the possible runs
    units_of([], by=settings.bootstrap_by)
    ceilings = _read_ceilings(settings.ceilings)
    shape = {"classes": len(store.classes), "parameters": store.parameters}
    for seed in range(settings.seeds):
        initialise(build_model(settings.recipe.model, streams=streams, **shape), _init(settings, seed))
        load_teacher(_recipe(settings, seed), store, streams)
    train = {*split.train}
    trained = [name for name in streams if any(name in subset for subset in chosen)]
    check_presence(store, [video for video in store.videos if video.path in train], trained)
    audited = audit_split(store, split)
    print_audit(audited)
    with output_folder(settings.out), output_folder(settings.runs or settings.out):
        seeds = [_one_seed(settings, store, split, chosen, seed) for seed in range(settings.seeds)]
        result = _findings(settings, store, seeds, ceilings, audited)
        _write(settings.out, result, seeds, store.classes)
    return result


def _findings(
    settings: AblateSettings, store: Store, seeds: list[Judged], ceilings: dict[str, float], audited: Audit
) -> Ablation:
    streams, judging = parse_streams(settings.streams, None), seeds[-1].judging
    rights = {
        method: {
            name: np.stack([one.answers[method][name].right(judging.labels) for one in seeds])
            for name in seeds[0].answers[method]
        }
        for method in METHODS
    }
    singles = {name: [one.singles[name] for one in seeds] for name in seeds[0].singles}
    tops = top1s(rights)
    return Ablation(
        data=str(store.path),
        which=judging.which,
        seeds=_seeds(settings.seeds),
        chance=1 / len(store.classes),
        ceilings=ceilings,
        top1=tops,
        best_single=best_single(singles, streams),
        chosen_on="the validation videos" if judging.held else "the judged videos themselves, which favours it",
        fitted_on="the validation videos" if judging.held else "the judged videos of other groups, in five parts",
        empty=audited.prior,
        shapley=values_of_streams(tops, streams, audited.prior),
        differences=differences(rights, singles, streams, judging.units),
        missing=when_missing(tops, streams),
        bootstrap_by=settings.bootstrap_by,
        audit=audited,
    )


def _chosen(settings: AblateSettings, streams: tuple[str, ...]) -> list[tuple[str, ...]]:
    chosen = [parse_streams(text, None) for text in settings.subsets] or subsets(streams)
    for subset in chosen:
        if not {*subset} <= {*streams}:
            raise UserError(f"--subsets names {subset_name(subset)}, which is no subset of {settings.streams}")
    return [subset for subset in subsets(streams) if subset in chosen]


def _one_seed(settings: AblateSettings, store: Store, split: Split, chosen: list[tuple[str, ...]], seed: int) -> Judged:
    """Train and judge a model for each of the chosen subsets, then combinations of the single-stream models."""
    streams = parse_streams(settings.streams, None)
    found: dict[str, dict[str, Probabilities]] = {method: {} for method in METHODS}
    alone: dict[str, Probabilities] = {}  # stream → probabilities of that stream's model for the judged videos
    held: dict[str, Probabilities] = {}  # the same for the videos held for fitting
    for subset in chosen:
        name = subset_name(subset)
        print(f"\n── {name}, seed {seed}")
        given = {"init": _init(settings, seed), "recipe": _recipe(settings, seed), "machine": settings.machine}
        folder = trained_run(settings.runs or settings.out, store, split, streams=subset, seed=seed, **given)
        run = load_run(folder, weights="last", device=settings.machine.device)
        judging = _judging(run, store, settings.bootstrap_by)
        wanted = subsets(streams) if subset == streams else [subset]
        answers = run.model.answers(store, judging.videos, wanted, views=settings.views)
        found["trained"][name] = Probabilities.of(answers, name)
        if subset == streams:
            found["joint"] = {part: Probabilities.of(answers, part) for part in map(subset_name, wanted)}
        if len(subset) == 1:
            if hasattr(run.model.network.head, "fitter"):  # combine the stream's own probabilities
                run.model.network.head.forget()
                answers = run.model.answers(store, judging.videos, [subset], views=settings.views)
            alone[name] = Probabilities.of(answers, name)
            if judging.held:
                answers = run.model.answers(store, judging.held, [subset], views=settings.views)
                held[name] = Probabilities.of(answers, name)
    for subset in subsets(streams):
        if len(subset) > 1 and {*subset} <= alone.keys():
            for method, joined in _joined(alone, held, subset, judging).items():
                found[method][subset_name(subset)] = joined
    deciding, labels = (held, judging.held_labels) if judging.held else (alone, judging.labels)
    singles = {name: float(one.right(labels).mean()) for name, one in deciding.items()}
    return Judged(judging, found, singles)


def _init(settings: AblateSettings, seed: int) -> tuple[str, ...]:
    return tuple(text.replace("{seed}", str(seed)) for text in settings.init)


def _recipe(settings: AblateSettings, seed: int) -> Recipe:
    teacher = settings.recipe.teacher
    return replace(settings.recipe, teacher=teacher and Path(str(teacher).replace("{seed}", str(seed))))


def _any_test(store: Store) -> bool:
    return any(video.split == "test" and video.label is not None for video in store.videos)


def _judging(run: Run, store: Store, by: str) -> TestVideos:
    test = _any_test(store)
    videos, which = choose_videos(run, store, "test" if test else "val")
    held = choose_videos(run, store, "val")[0] if test else []
    labels, held_labels = (
        torch.tensor([run.model.classes.index(video.label) for video in part], dtype=torch.int64)
        for part in (videos, held)
    )
    return TestVideos(videos, which, labels, units_of(videos, by=by), held, held_labels)


def _joined(
    alone: dict[str, Probabilities], held: dict[str, Probabilities], subset: tuple[str, ...], judging: TestVideos
) -> dict[str, Probabilities]:
    """The single-stream models combined in each way."""
    alone = {name: alone[name] for name in subset}
    joined = {"mean": mean_probabilities(alone)}
    units = units_of(judging.videos)
    for how in FITTERS:
        if judging.held:
            joined[how] = fitted_probabilities(how, alone, {name: held[name] for name in subset}, judging.held_labels)
        elif fitted := cross_fitted_probabilities(how, alone, judging.labels, units):
            joined[how] = fitted
    return joined


def _read_ceilings(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is no JSON object like {{"rgb": 0.25, "rgb+flow": 0.5}}') from error


def _write(folder: Path, result: Ablation, seeds: list[Judged], classes: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, text: str) -> None:
        raw = text.encode("utf-8", "backslashreplace")  # names of files may hold bytes that are not UTF-8
        write_aside(folder / name, lambda part: part.write_bytes(raw))

    plot_ablation(result, METHODS, folder / "ablation.png")
    answers = (
        ({"seed": seed, "method": method, "streams": name}, one)
        for seed, judged in enumerate(seeds)
        for method, found in judged.answers.items()
        for name, one in found.items()
    )
    write_predictions(folder / "predictions.csv", seeds[-1].judging.videos, classes, answers)
    shown = tables(result)
    for name, render in {"table.md": markdown, "table.tex": latex}.items():
        write(name, render(shown))
    write("table.csv", csv_text(result))
    write_json(folder / "ablation.json", result)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean ± standard deviation over {count} seeds"


def print_result(result: Ablation) -> None:
    """The tables on screen, and what the audit warns of."""
    for table in tables(result)[:-1]:
        print(f"\n{table.caption}")
        print_table(table.head, table.rows)
    print()
    print_audit(result.audit)


def main(settings: AblateSettings | None = None) -> None:
    settings = settings or parse_command(AblateSettings, prog="python -m tasks.ablate", doc=__doc__)
    try:
        result = ablate(settings)
    except KeyboardInterrupt:
        print("repeat the same ablation command to go on with all of it")
        raise
    print_result(result)
    print("wrote " + ", ".join(str(settings.out / name) for name in FILES))


if __name__ == "__main__":
    run_command(main)
