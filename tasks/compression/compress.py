"""A run in, a smaller model out, and both judged."""

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from tasks.compression.clips import training_feeds
from tasks.compression.learn import learn
from tasks.compression.quantise import quantise
from tasks.compression.settings import METHODS, CompressSettings
from tasks.compression.table import Row, judge, measure, show
from tasks.exported.write import write_parts
from tasks.model import Model, load
from tasks.run import Run, check_store, choose_videos, chosen_on, load_run


def compress(settings: CompressSettings) -> list[Row]:
    """Make the smaller model, judge both, print and write the table; return its rows.

    Raises UserError for a run that cannot be compressed so, and for stores that do not fit it.
    """
    _check(settings)
    run = load_run(settings.run, weights=settings.weights, device="cpu")
    data = settings.data or run.settings.data
    store, test = Store(data), Store(settings.test or data)
    check_store(run, store)
    check_store(run, test)
    videos, which = choose_videos(run, test, "auto")
    facts: dict = {"run": str(run.path), "settings": asdict(settings)}
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, Model | Path] = {"before": run.model}
        if settings.method == "quantise":
            feeds = training_feeds(run, store, count=settings.clips, seed=settings.seed)
            exported = Path(folder) / "float"
            write_parts(run.model, exported)
            found = quantise(exported, settings.out, feeds, limit=settings.limit)
            for name, one in found.items():
                kept = "int8" if one.int8 else f"float, since int8 is above --limit {settings.limit}"
                print(f"{name}: {kept}; {plural(one.convolutions, 'convolution')} in int8, error {one.error:.3f}")
            facts["parts"] = {name: asdict(one) for name, one in found.items()}
            models |= {"exported": exported, "int8": settings.out}
        else:
            learn(settings, run, data)
            models["pruned" if settings.method == "prune" else "student"] = _trained(settings)
        rows = _judged(models, run, test, videos, settings)
        show(rows, settings.out, which=which, facts=facts)
    if chosen := chosen_on(run, videos):
        print(f"note: the best weights were chosen on {chosen} of these videos: --weights last, or --test others")
    return rows


def _judged(
    models: dict[str, Model | Path], run: Run, test: Store, videos: list, settings: CompressSettings
) -> list[Row]:
    opened = {name: load(one) if isinstance(one, Path) else one for name, one in models.items()}
    shape = {"store": test, "videos": videos, "views": settings.views}
    rows = [judge(model, name, **shape) for name, model in opened.items()]
    times = measure(models, turns=settings.turns)
    return [replace(row, milliseconds=times[row.name]) for row in rows]


def _trained(settings: CompressSettings) -> Model:
    return load(settings.out, weights=settings.weights, device="cpu")


def _check(settings: CompressSettings) -> None:
    if settings.method not in METHODS:
        raise UserError(f"unknown --method '{settings.method}': known are {', '.join(METHODS)}")
    at_least(1, clips=settings.clips, views=settings.views, turns=settings.turns)
    at_least(0, seed=settings.seed, limit=settings.limit, share=settings.share)
    if settings.epochs is not None:
        at_least(1, epochs=settings.epochs)
    if not 0 < settings.channels < 1:
        raise UserError(f"--channels is a share of the channels, above 0 and below 1, not {settings.channels}")
    if settings.out.exists():
        raise UserError(f"{settings.out} is there already: name another folder, or delete it")
