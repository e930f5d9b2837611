"""Settings of a search: checks, and the settings of a trial's run."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.settings import ModelSettings
from fusion.training.settings import Recipe, TrainSettings, need_classes, options, validate
from fusion.training.teacher import load_teacher
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from streams.registry import parse_streams, streams_of
from streams.split import split_videos
from tasks.settings import TuneSettings
from tasks.tuning.space import KNOWN, Space, contains, ends, parse_space

if TYPE_CHECKING:
    from optuna import Study


def prepare(settings: TuneSettings) -> Space:
    """Check the settings and return the search space. Raises UserError for invalid ones."""
    at_least(1, trials=settings.trials, parallel=settings.parallel)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("tasks.tune is not for torchrun: start it with python, and --parallel N for N trials at once")
    need_classes(settings.recipe)
    store = Store(settings.data)
    streams = parse_streams(settings.streams, streams_of(store.parameters))
    split_videos(store.videos, seed=settings.recipe.split_seed, name=str(store.path))
    load_teacher(settings.recipe, store, streams)
    space = parse_space(settings.search)
    if len(streams) == 1:
        space.pop("stream_dropout", None)  # a single stream is never hidden
    if not space:
        raise UserError(f"--search names nothing to search: choose from {', '.join(KNOWN)}")
    start = recipe_options(settings.recipe)
    for name, values in space.items():
        if not contains(values, start[name]):
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} {start[name]}, where the search starts, is not in --search {name} {ends(values)}: give "
                f"another {option}, or another --search {name}=…"
            )
        for value in ends(values):
            validate(trial_settings(settings, {name: value}, run=None))
    return space


def same_search(settings: TuneSettings, space: Space, study: "Study") -> None:
    """Record the search in the study. Raises UserError if the study is another search."""
    store = Store(settings.data)
    search = {
        "streams": ",".join(parse_streams(settings.streams, None)),
        "seed": settings.seed,
        **recipe_options(settings.recipe),
        **{f"search {name}": ends(values) for name, values in space.items()},
    }
    search = json.loads(json.dumps({"data": store.digest, "options": search}, default=str))
    there = study.user_attrs.get("search")
    if there is None:
        return study.set_user_attr("search", search)
    advice = "repeat that, or name another folder with --out"
    if there["data"] != search["data"]:
        raise UserError(f"{settings.out} is a search on other data than {store.path} holds: {advice}")
    was, now = there["options"], search["options"]
    other = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if other:
        text = ", ".join(f"--{name.replace('_', '-')} {was.get(name)}, not {now.get(name)}" for name in other)
        raise UserError(f"{settings.out} is a search with {text}: {advice}")


def recipe_options(recipe: Recipe) -> dict[str, object]:
    """All options of a recipe, by name."""
    return options(recipe, recipe.clip, recipe.model)


def trial_settings(settings: TuneSettings, values: dict[str, object], *, run: Path | None) -> TrainSettings:
    """The settings of a run with these values."""
    shape = {f.name for f in fields(ModelSettings)} & {*values}
    model = replace(settings.recipe.model, **{name: values[name] for name in shape})
    rest = {name: value for name, value in values.items() if name not in shape}
    return TrainSettings(
        streams=",".join(parse_streams(settings.streams, None)),
        data=settings.data,
        run=run,
        seed=settings.seed,
        recipe=replace(settings.recipe, model=model, **rest),
        machine=settings.machine,
    )


def command_line(settings: TrainSettings) -> list[str]:
    """The command line of a run with these settings: the options that are not the default."""
    given, usual = (
        options(one, one.recipe, one.machine, one.recipe.clip, one.recipe.model) for one in (settings, TrainSettings())
    )
    words = ["python", "train.py"]
    for name, value in given.items():
        if isinstance(usual[name], bool):
            words += [f"--{'' if value else 'no-'}{name.replace('_', '-')}"] * (value != usual[name])
        elif value != usual[name] or name in ("streams", "data"):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def folder_of(out: Path, number: int) -> Path:
    """The folder of a trial's run."""
    return out / "trials" / f"{number:03d}"
