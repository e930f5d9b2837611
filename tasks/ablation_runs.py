"""The runs of an ablation: one folder for everything that decides what a run learns, so that none is trained twice."""

import json
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path

from fusion.checkpoint import Checkpoints
from fusion.settings import Machine, Recipe, TrainSettings
from preprocess.store import Store
from streams import STREAMS, subset_name
from streams.split import Split
from train import train


def run_folder(folder: Path, store: Store, split: Split, settings: TrainSettings) -> Path:
    """Where the run of these settings lies: streams and seed to be read, and a digest of all that decides its result.

    That is the recipe, the streams, the seed, what the store holds and which of its videos train and validate; neither
    the machine nor where the store lies.
    """
    streams = settings.streams.split(",")
    decides = {
        "recipe": asdict(settings.recipe),
        "streams": streams,
        "seed": settings.seed,
        "store": store.digest,
        "split": [split.train, split.val],
    }
    text = json.dumps(decides, sort_keys=True, default=str)
    digest = blake2b(text.encode(), digest_size=6).hexdigest()
    return folder / f"{subset_name(streams)}-seed{settings.seed}-{digest}"


def trained_run(
    folder: Path, store: Store, split: Split, *, streams: tuple[str, ...], seed: int, recipe: Recipe, machine: Machine
) -> Path:
    """The folder of the run, which is trained as far as it was not."""
    settings = TrainSettings(
        streams=",".join(streams),
        data=store.path.absolute(),  # from wherever the ablation goes on
        seed=seed,
        recipe=_own_recipe(recipe, streams),
        machine=machine,
    )
    run = run_folder(folder, store, split, settings)
    begun = any(Checkpoints(run, keep=machine.keep).files())
    return train(replace(settings, run=run, resume=begun))


def _own_recipe(recipe: Recipe, streams: tuple[str, ...]) -> Recipe:
    """The recipe without the towers of other known streams, which neither can be built nor decide anything."""
    others = STREAMS.keys() - {*streams}
    towers = tuple(text for text in recipe.model.towers if text.partition("=")[0] not in others)
    return replace(recipe, model=replace(recipe.model, towers=towers))
