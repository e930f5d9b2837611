"""What is each stream worth? Train every subset of the streams, and compare.

    python -m tasks.ablate --data out.h5                              # 7 subsets, one seed
    python -m tasks.ablate --data out.h5 --seeds 3 --epochs 20        # mean ± standard deviation
    python -m tasks.ablate --data out.h5 --subsets rgb flow rgb+flow

Beside a model trained on each subset stand two controls: the one model of all streams with the others taken away, and
the mean of models trained on one stream each; and the best single stream. Interrupted, the same command goes on.
"""

import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from fusion.checkpoint import Checkpoints, write_json
from fusion.predict import Answers
from fusion.settings import Machine, Recipe, TrainSettings, differences, read_settings
from preprocess.command import parse_command, run_command
from preprocess.durable import write_aside
from preprocess.errors import UserError, at_least
from preprocess.index import Video
from preprocess.store import Store
from preprocess.table import markdown_table, print_table
from streams import parse_streams, subset_name, subsets
from tasks.evaluate import ask
from tasks.figures import plot_ablation
from tasks.metrics import score
from tasks.run import Run, choose_videos, load_run
from train import train

METHODS = {
    "trained": "trained on these",
    "joint": "model of all, rest taken away",
    "mean": "mean of separate models",
}


@dataclass(frozen=True)
class AblateSettings:
    """The command line of tasks.ablate."""

    data: Path = Path("out.h5")
    """store to train and judge on"""
    streams: str = "rgb,flow,audio"
    """streams whose subsets are trained"""
    subsets: tuple[str, ...] = ()
    """only these subsets, for instance rgb rgb+flow; the default is all"""
    seeds: int = 1
    """runs of each subset, with other weights and clips but the same split"""
    out: Path = Path("runs/ablation")
    """folder for the runs, table.md, table.csv, ablation.png and ablation.json"""
    views: int = 5
    """clips a video when judging"""
    ceilings: Path | None = None
    """JSON file of the best top-1 there can be for each subset, if that is known; drawn beside the results"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


def ablate(settings: AblateSettings) -> dict:
    """Train what is not trained yet, judge everything on the same videos, write and return the result.

    The videos are the store's test videos if the labels named some, otherwise the validation videos. Judged are each
    run's last weights: those that did best on few validation videos are often an early epoch's that was lucky, and
    never to be judged on these very videos.
    """
    at_least(1, seeds=settings.seeds, views=settings.views)
    streams = parse_streams(settings.streams)
    chosen = [parse_streams(text) for text in settings.subsets] or subsets(streams)
    for subset in chosen:
        if not {*subset} <= {*streams}:
            raise UserError(f"--subsets names {subset_name(subset)}, which is no subset of {settings.streams}")
    chosen = [subset for subset in subsets(streams) if subset in chosen]
    ceilings = _read_ceilings(settings.ceilings)
    store = Store(settings.data)
    tops: dict[str, dict[str, list[float]]] = {method: {} for method in METHODS}
    for seed in range(settings.seeds):
        separate: dict[str, Answers] = {}
        for subset in chosen:
            print(f"\n── {subset_name(subset)}, seed {seed}")
            run, videos, which = _trained(settings, store, subset, seed)
            names = subsets(streams) if subset == streams else [subset]
            answers = ask(run, store, videos, names, views=settings.views)
            labels = torch.tensor([run.classes.index(video.label) for video in videos])
            for name in map(subset_name, names):
                method = "trained" if name == subset_name(subset) else "joint"
                tops[method].setdefault(name, []).append(_top1(answers, name, labels, run.classes))
            if len(subset) == 1:
                separate[subset[0]] = answers
        for subset in subsets(streams):
            if len(subset) > 1 and all(name in separate for name in subset):
                top1 = _top1_of_mean([separate[name] for name in subset], subset, labels, run.classes)
                tops["mean"].setdefault(subset_name(subset), []).append(top1)
    result = {
        "data": str(store.path),
        "which": which,
        "seeds": _seeds(settings.seeds),
        "chance": 1 / len(store.classes),
        "ceilings": ceilings,
        "top1": tops,
        "best_single": _best_single(tops["trained"]),
    }
    write_json(settings.out / "ablation.json", result)
    _write_tables(settings.out, result)
    plot_ablation(result, METHODS, settings.out / "ablation.png")
    return result


def _trained(
    settings: AblateSettings, store: Store, subset: tuple[str, ...], seed: int
) -> tuple[Run, list[Video], str]:
    """The run of a subset and seed, trained as far as it was not, and the videos to judge it on."""
    path = settings.out / f"{subset_name(subset)}-seed{seed}"
    wanted = TrainSettings(
        streams=",".join(subset),
        data=settings.data,
        run=path,
        seed=seed,
        recipe=settings.recipe,
        machine=settings.machine,
    )
    if (path / "settings.json").exists():
        there, _ = read_settings(path)
        other = differences(there, replace(wanted, resume=there.resume))
        if other:
            was = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in other.items())
            raise UserError(f"{path} was trained with {was}: name another folder with --out, or delete it")
        wanted = replace(wanted, resume=any(Checkpoints(path, keep=settings.machine.keep).files()))
    train(wanted)
    any_test = any(video.split == "test" and video.label is not None for video in store.videos)
    run = load_run(path, weights="last", device=settings.machine.device)
    videos, which = choose_videos(run, store, "test" if any_test else "val")
    return run, videos, which


def _top1(answers: Answers, subset: str, labels: torch.Tensor, classes: list[str]) -> float:
    return score(answers.probabilities(subset), labels, answers.answered(subset), classes)["top1"]


def _top1_of_mean(separate: list[Answers], subset: tuple[str, ...], labels: torch.Tensor, classes: list[str]) -> float:
    """Top-1 of the mean of the probabilities of models trained on one stream each, where they have an answer."""
    total = sum(answers.probabilities(name) for name, answers in zip(subset, separate, strict=True))
    count = sum(answers.answered(name).double() for name, answers in zip(subset, separate, strict=True))
    return score(total / count.clamp(min=1)[:, None], labels, count > 0, classes)["top1"]


def _best_single(trained: dict[str, list[float]]) -> str | None:
    """The stream that does best alone, on average over the seeds."""
    singles = {name: values for name, values in trained.items() if "+" not in name}
    return max(singles, key=lambda name: sum(singles[name]), default=None)


def _read_ceilings(path: Path | None) -> dict[str, float]:

    if path is None:
        return {}
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f'{path} is no JSON object like {{"rgb": 0.25, "rgb+flow": 0.5}}') from error


def table(result: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows for people: a row a subset, a column a method; then the best single stream."""
    tops, ceilings = result["top1"], result["ceilings"]
    head = ["streams", *METHODS.values(), *(["ceiling"] if ceilings else [])]
    names = dict.fromkeys(name for method in ("trained", "joint") for name in tops[method])
    names = sorted(names, key=lambda name: name.count("+"))  # single streams first, however few were chosen
    rows = [
        [name, *(_cell(tops[method].get(name)) for method in METHODS)]
        + ([f"{100 * ceilings[name]:.1f}" if name in ceilings else "–"] if ceilings else [])
        for name in names
    ]
    best = result["best_single"]
    if best:
        rows.append([f"best single: {best}", _cell(tops["trained"][best]), "", "", *([""] if ceilings else [])])
    return head, rows


def _cell(values: list[float] | None) -> str:
    if not values:
        return "–"
    mean, deviation = mean_and_deviation(values)
    return f"{100 * mean:.1f}" if len(values) == 1 else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over the seeds; 0 for one seed."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


def _write_tables(folder: Path, result: dict) -> None:
    head, rows = table(result)
    note = f"Top-1 in % on {result['which']}; {result['seeds']}.\n"
    write_aside(folder / "table.md", lambda part: part.write_text(markdown_table(head, rows) + "\n" + note))

    def write_csv(part: Path) -> None:
        with open(part, "w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["streams", "method", "seeds", "top1_mean", "top1_std", "ceiling", "top1_of_each_seed"])
            for method, tops in result["top1"].items():
                for name, values in tops.items():
                    numbers = [len(values), *mean_and_deviation(values), result["ceilings"].get(name, "")]
                    lines.writerow([name, method, *numbers, " ".join(map(str, values))])

    write_aside(folder / "table.csv", write_csv)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"mean ± standard deviation over {count} seeds"


def main() -> None:
    settings = parse_command(AblateSettings, prog="python -m tasks.ablate", doc=__doc__)
    try:
        result = ablate(settings)
    except KeyboardInterrupt:
        print("repeat the same ablation command to go on with all of it")
        raise
    print(f"\ntop-1 in % on {result['which']}; {result['seeds']}")
    print_table(*table(result))
    names = ("table.md", "table.csv", "ablation.png", "ablation.json")
    print("wrote " + ", ".join(str(settings.out / name) for name in names))


if __name__ == "__main__":
    run_command(main)
