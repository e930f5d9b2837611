"""What one of several processes does in test_ranks.py: tests.support.joining FOLDER, which says in cases.json what."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion.answers import predict_videos
from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.balance import BALANCES, opm
from fusion.training.fitting import fit_head
from fusion.training.norms import estimate_norms
from fusion.training.ranks import Ranks
from fusion.training.settings import Recipe
from fusion.training.step import Schedule, Step
from fusion.training.teacher import Teacher
from preprocess.store import Store
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.loader import EpochBatches, ViewBatches, make_loader
from streams.registry import STREAMS, subsets

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
MODEL = ModelSettings(width=4, feature=8, dropout=0.0, towers=("flow=r2plus1d",))
RECIPE = Recipe(clip=CLIP, model=MODEL, stream_dropout=0.0, batch=7)


def train(
    store: Store,
    ranks: Ranks,
    *,
    head: str = "concat",
    balance: str = "auxiliary",
    towers: tuple[str, ...] = MODEL.towers,
    steps: int | None = None,
    teacher: tuple[str, ...] = (),
    streams: tuple[str, ...] = tuple(STREAMS),
) -> dict:
    """Two epochs without chance, or so many steps: losses, clips, gradients after each, buffers, weights; after an
    epoch batch norm's statistics are taken anew, and all videos are answered.

    What OPM may hide it hides. teacher: the streams of one, if there is one, of those that are read: all.
    """
    with pytest.MonkeyPatch.context() as patch:
        real = Batch.inputs
        patch.setattr(Batch, "inputs", lambda batch, training: real(batch, training=False))
        patch.setattr(opm, "MOST", 1e9)
        settings = replace(MODEL, head=head, towers=tuple(towers))
        return _train(store, ranks, settings, balance, steps, tuple(teacher), tuple(streams))


def _train(
    store: Store,
    ranks: Ranks,
    settings: ModelSettings,
    balance: str,
    steps: int | None,
    teacher: tuple[str, ...],
    streams: tuple[str, ...],
) -> dict:
    torch.manual_seed(0)
    shape = {"classes": len(store.classes), "parameters": store.parameters}
    knows = teacher and build_model(settings, streams=teacher, **shape).eval().requires_grad_(False)
    model = build_model(settings, streams=streams, **shape).train()
    # at a small rate: AdamW makes large steps of what rounding makes of gradients near zero
    schedule = Schedule(lr=1e-4, weight_decay=0.05, steps=20)
    method = BALANCES[balance](streams=streams, auxiliary=RECIPE.auxiliary, epochs=2)
    step = Step(model, balance=method, schedule=schedule, device=torch.device("cpu"), ranks=ranks, average=0.5)
    shared = {"streams": streams, "classes": store.classes, "clip": CLIP}
    dataset = ClipDataset(store, store.videos, seed=0, **shared)
    if knows:
        step.teacher = Teacher(knows, Path("t"), "", CLIP, share=0.5, temperature=1.0)
        step.teacher.join(dataset, model)
    share = {"rank": ranks.rank, "ranks": ranks.size}
    batches = EpochBatches(dataset, batch=RECIPE.batch, parts=1, seed=0, **share)
    loader = make_loader(dataset, batches, workers=0, pin=False)
    judged = ClipDataset(store, store.videos, **shared)
    views = ViewBatches(judged, batch=3, **share)
    sizes = {"videos": len(store), "classes": len(store.classes), "device": torch.device("cpu")}
    asking = make_loader(judged, views, workers=0, pin=False), subsets(streams)
    found: dict = {"losses": [], "clips": [], "seen": [], "gradients": [], "none": []}
    number = 0
    for batches.epoch in range(2):
        for batch in loader:
            taken = step([batch], number, recipe=RECIPE, seed=0)
            number += 1
            found["losses"].append(float(taken.objective))
            found["clips"].append(taken.clips)
            found["seen"].append(taken.seen.tolist())
            gradients = {name: p.grad for name, p in model.named_parameters()}
            found["none"].append(sorted(name for name, gradient in gradients.items() if gradient is None))
            found["gradients"].append({name: g.clone() for name, g in gradients.items() if g is not None})
            if number == steps:
                return found
        estimate_norms(model, loader, device=torch.device("cpu"), seed=0)
        labels = torch.tensor([judged.rows[video.label] for video in judged.videos])
        fitting = {"subsets": subsets(streams), "device": torch.device("cpu"), "add_up": ranks.add_up}
        found["honest"] = fit_head(model, asking[0], labels, range(len(store)), **fitting)
        answers = predict_videos(model, *asking, **sizes, watch=step.balance.watch)
        step.balance.end_epoch(ranks)
        model.train()
    assert step.report_skipped() == []
    found["buffers"] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found["weights"] = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found["balance"] = step.balance.state_dict()
    found["average"] = step.average.state_dict()
    asked = [0] * len(store)
    for keys in views:
        for row, _ in keys:
            asked[row] += 1
    found["asked"] = asked
    answers.join(ranks.add_up)
    found["answers"] = {"+".join(subset): answers.probabilities("+".join(subset)) for subset in subsets(streams)}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with Ranks() as ranks:
        for case, store, settings in json.loads((out / "cases.json").read_text()):
            print(case, flush=True)
            torch.save(train(Store(store), ranks, **settings), out / f"{case}-{ranks.rank}.pt")
