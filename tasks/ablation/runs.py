"""The runs of an ablation, in folders named by everything that decides the result, so that none is trained twice."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path

from fusion.training.checkpoint import Checkpoints
from fusion.training.settings import Machine, Recipe, TrainSettings
from fusion.training.teacher import load_teacher
from fusion.training.weights import PUBLISHED, Source, encoders_in, parse_init, read_weights
from preprocess.store import Store
from streams.registry import streams_of, subset_name
from streams.split import Split
from train import train


def run_folder(folder: Path, store: Store, split: Split, settings: TrainSettings) -> Path:
    """The folder of the run with these settings: streams and seed, and a digest of all that decides its result.

    That is the recipe, the streams, the seed, the store's content and its training and validation videos, and the
    content of the files that encoders start from and of the teacher's; neither the machine nor the paths of all these.
    """
    streams = settings.streams.split(",")
    decides = {
        "recipe": asdict(replace(settings.recipe, teacher=None)),
        "streams": streams,
        "seed": settings.seed,
        "store": store.digest,
        "split": [split.train, split.val],
    }
    if settings.init:
        decides["init"] = _starts(settings.init, streams)
    if teacher := load_teacher(settings.recipe, store, streams):
        decides["teacher"] = teacher.sha256
    text = json.dumps(decides, sort_keys=True, default=str)
    digest = blake2b(text.encode(), digest_size=6).hexdigest()
    return folder / f"{subset_name(streams)}-seed{settings.seed}-{digest}"


def trained_run(
    folder: Path,
    store: Store,
    split: Split,
    *,
    streams: tuple[str, ...],
    seed: int,
    init: tuple[str, ...],
    recipe: Recipe,
    machine: Machine,
) -> Path:
    """Train the run as far as it is not yet trained; return its folder. Of `init`, its streams' entries are used."""
    settings = TrainSettings(
        streams=",".join(streams),
        data=store.path.absolute(),  # the ablation may be resumed from another folder
        seed=seed,
        init=_own_init(init, streams),
        recipe=_own_recipe(recipe, store, streams),
        machine=machine,
    )
    run = run_folder(folder, store, split, settings)
    begun = any(Checkpoints(run, keep=machine.keep).files())
    # a resumed run has its initial weights, whose path may have changed
    return train(replace(settings, run=run, resume=begun, init=() if begun else settings.init))


def _own_init(init: tuple[str, ...], streams: Sequence[str]) -> tuple[str, ...]:
    """The entries of --init for any of these streams."""
    sources = parse_init(init, None)
    return tuple(str(source) for source in sources if _started(source, sources, streams))


def _starts(init: tuple[str, ...], streams: Sequence[str]) -> dict[str, str]:
    """Stream → a digest of the content of the file that its encoder starts from."""
    sources = parse_init(init, None)
    return {stream: _digest(source) for source in sources for stream in _started(source, sources, streams)}


def _started(source: Source, sources: list[Source], streams: Sequence[str]) -> list[str]:
    """The streams whose encoders start from this source."""
    if source.stream:
        return [stream for stream in streams if stream == source.stream]
    there = encoders_in(read_weights(source.text)[1]) - {other.stream for other in sources}
    return [stream for stream in streams if stream in there]


def _digest(source: Source) -> str:
    if source.text in PUBLISHED:
        return source.text
    path, _ = read_weights(source.text)
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _own_recipe(recipe: Recipe, store: Store, streams: tuple[str, ...]) -> Recipe:
    """The recipe without what it says of other streams of the store, which has no effect."""
    others = streams_of(store.parameters).keys() - {*streams}
    towers, lr_of, clip_of, blend = (
        tuple(text for text in texts if text.partition("=")[0] not in others)
        for texts in (recipe.model.towers, recipe.lr_of, recipe.clip.clip_of, recipe.clip.blend)
    )
    freeze = ",".join(name for name in recipe.freeze.split(",") if name.strip() not in others)
    model, clip = replace(recipe.model, towers=towers), replace(recipe.clip, clip_of=clip_of, blend=blend)
    return replace(recipe, model=model, clip=clip, lr_of=lr_of, freeze=freeze)
