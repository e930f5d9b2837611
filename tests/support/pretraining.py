"""Pretraining for tests; as a command what one of several processes does: STORE FOLDER STREAMS KIND."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.balance import Auxiliary
from fusion.training.pretrain import PRETEXTS
from fusion.training.ranks import Ranks
from fusion.training.settings import Recipe
from fusion.training.step import Schedule, Step
from preprocess.store import Store
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.loader import EpochBatches, make_loader
from streams.split import group_numbers

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
MODEL = ModelSettings(width=4, feature=16, dropout=0.0)
CPU = torch.device("cpu")


def loader_of(
    store: Store, streams: tuple[str, ...], *, batch: int, parts: int = 1, views: int = 1, ranks: Ranks | None = None
) -> DataLoader:
    """Clips drawn as for pretraining."""
    ranks = ranks or Ranks()
    dataset = ClipDataset(store, store.videos, streams=streams, classes=[], clip=CLIP, seed=0, apart=True)
    share = {"rank": ranks.rank, "ranks": ranks.size}
    batches = EpochBatches(dataset, batch=batch, parts=parts, views=views, seed=0, **share)
    return make_loader(dataset, batches, workers=0, pin=False)


def batches_of(store: Store, streams: tuple[str, ...], **shape: int) -> list[Batch]:
    return list(loader_of(store, streams, **shape))


def make_step(
    store: Store,
    streams: tuple[str, ...],
    *,
    kind: str = "contrast",
    lr: float = 1e-2,
    steps: int = 100,
    ranks: Ranks | None = None,
) -> Step:
    torch.manual_seed(0)
    model = build_model(MODEL, streams=streams, classes=0, parameters=store.parameters).train()
    for heads in (model.head, model.auxiliary):
        heads.requires_grad_(False)
    pretext = PRETEXTS[kind](streams=streams, feature=MODEL.feature, units=group_numbers(store.videos))
    balance = Auxiliary(streams=streams, auxiliary=0.5, epochs=1)
    schedule = Schedule(lr=lr, weight_decay=0.05, steps=steps)
    return Step(model, balance=balance, schedule=schedule, device=CPU, ranks=ranks or Ranks(), pretext=pretext)


def pretrain(
    store: Store,
    streams: tuple[str, ...],
    *,
    kind: str = "contrast",
    epochs: int,
    lr: float,
    batch: int,
    plain: bool = False,
    judged: Store | None = None,
    ranks: Ranks | None = None,
) -> dict:
    """What the steps gave, the gradients of the first, and what the `judged` videos say in the end.

    plain: nothing is drawn on the device, since ranks draw apart.
    """
    total = -(-len(store) // batch)
    step = make_step(store, streams, kind=kind, lr=lr, steps=epochs * total, ranks=ranks)
    drawn = {"batch": batch, "views": step.pretext.views, "ranks": ranks}
    loader = loader_of(store, streams, **drawn)
    batches = loader.batch_sampler
    found: dict = {"taken": []}
    recipe = Recipe(clip=CLIP, model=MODEL)
    with pytest.MonkeyPatch.context() as patch:
        if plain:
            real = Batch.inputs
            patch.setattr(Batch, "inputs", lambda one, training: real(one, training=False))
            patch.setattr(torch, "randint_like", lambda like, high: like)  # the order of pieces follows the video
        for batches.epoch in range(epochs):
            step.model.train()
            for number, one in enumerate(loader, start=batches.epoch * total):
                taken = step([one], number, recipe=recipe, seed=0)
                found["taken"].append([float(taken.objective), *taken.seen.tolist()])
                if not number:
                    parts = {"model": step.model, "pretext": step.pretext}
                    found["gradients"] = {
                        f"{part}.{name}": parameter.grad.clone()
                        for part, module in parts.items()
                        for name, parameter in module.named_parameters()
                        if parameter.grad is not None
                    }
        asking = loader_of(judged or store, streams, **drawn)
        found["row"] = step.pretext.judge(step.model, asking, asking.dataset.videos, ranks=step.ranks)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    path, out, names, kind = sys.argv[1:]
    plain = {"kind": kind, "epochs": 1, "lr": 1e-4, "batch": 5, "plain": True}
    with Ranks() as several:
        result = pretrain(Store(path), tuple(names.split(",")), ranks=several, **plain)
        torch.save(result, Path(out) / f"{several.rank}.pt")
