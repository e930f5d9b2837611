"""The systems by name: what each costs, and how far it comes from scratch in the same time.

    python -m benchmarks.systems out.h5                                  # all of them, two CPU minutes of training each
    python -m benchmarks.systems out.h5 --minutes 10 --seeds 0 1 2 --systems cnn+lstm i3d c3d

Every system has the same clips, head, recipe and minutes on one thread; the epochs follow from the time that a step
takes, one at least. Top-1 is of the last epoch, on the validation videos of the store, so that nothing is chosen by
them. GMACs are multiply-accumulates of one clip, those of LSTMs included; milliseconds are the CPU time of one clip
forward. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from fusion.model import FusionModel, build_model
from fusion.settings import ModelSettings
from fusion.training.datasets import make_datasets
from fusion.training.settings import Machine, Recipe, TrainSettings
from preprocess.store import Store
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.registry import streams_of
from streams.split import split_videos
from train import train

SLOW = 1e-4  # learning rate of towers without batch norm, which at --lr often learn nothing


@dataclass(frozen=True)
class System:
    """A model, as train.py is asked for it."""

    tower: str
    streams: tuple[str, ...] = ("rgb",)
    head: str = "concat"
    lr: float | None = None  # of the tower, if not the usual

    def recipe(self, clip: ClipSettings, *, batch: int, epochs: int = 1) -> Recipe:
        model = ModelSettings(towers=tuple(f"{name}={self.tower}" for name in self.streams), head=self.head)
        lr_of = tuple(f"{name}={self.lr}" for name in self.streams if self.lr)
        return Recipe(epochs=epochs, val_every=epochs, batch=batch, lr_of=lr_of, clip=clip, model=model)


SYSTEMS = {
    "conv3d+lstm": System("conv3d+lstm"),
    "plain3d+lstm": System("plain3d+lstm", lr=SLOW),
    "c3d+lstm": System("c3d+lstm", lr=SLOW),
    "i3d+lstm": System("i3d+lstm"),
    "cnn+lstm": System("cnn+lstm"),
    "cnn+gru": System("cnn+gru"),
    "cnn+tcn": System("cnn+tcn"),
    "cnn+mean": System("cnn+mean"),
    "rgb+flow, concat": System("conv3d+lstm", ("rgb", "flow")),
    "rgb+flow, binding": System("conv3d+lstm", ("rgb", "flow"), "binding"),
    "rgb+flow, convolution": System("conv3d+lstm", ("rgb", "flow"), "convolution"),
}


@dataclass
class Found:
    """What was measured of one system."""

    gmacs: float  # of a clip
    parameters: int
    ms: float  # of CPU time, a clip forward, median
    epochs: int = 0
    cpu_seconds: float = 0.0  # of a run, validation included; the mean over seeds
    top1: tuple[float, ...] = ()  # of each seed


def build(system: System, store: Store, clip: ClipSettings, *, batch: int) -> FusionModel:
    settings = system.recipe(clip, batch=batch).model
    return build_model(settings, streams=system.streams, classes=len(store.classes), parameters=store.parameters)


def random_inputs(system: System, store: Store, clip: ClipSettings, count: int) -> tuple[dict, dict]:
    """What the towers of a system take, at random, and where it is present: everywhere."""
    kinds = streams_of(store.parameters)
    shape = (clip.frames, clip.size, clip.size)
    clips = {name: torch.randn(count, kinds[name].channels(store.parameters), *shape) for name in system.streams}
    return clips, {name: torch.ones(count, dtype=torch.bool) for name in clips}


def cost(model: FusionModel, clips: dict, present: dict, *, turns: int) -> Found:
    """Of one clip."""
    recurrent: list[float] = []  # multiply-accumulates of LSTMs, which PyTorch's counter passes over, unlike a GRU's
    hooks = [
        module.register_forward_hook(lambda layer, given, _: recurrent.append(given[0].shape[1] * matrices(layer)))
        for module in model.modules()
        if isinstance(module, nn.LSTM)
    ]
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model.eval()(clips, present)
        for hook in hooks:
            hook.remove()
        taken = []
        for _ in range(turns + 1):
            begun = process_time()
            model(clips, present)
            taken.append(1000 * (process_time() - begun))
    macs = counter.get_total_flops() / 2 + sum(recurrent)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Found(macs / 1e9, parameters, statistics.median(taken[1:]))


def matrices(layer: nn.LSTM) -> int:
    """Weights that each step is multiplied by."""
    return sum(weight.numel() for name, weight in layer.named_parameters() if name.startswith("weight"))


def step_seconds(model: FusionModel, dataset: ClipDataset, *, batch: int, steps: int = 2) -> float:
    """CPU time of a training step, reading included."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-6)
    begun = 0.0
    for step in range(steps + 1):
        begun = process_time() if step == 1 else begun  # the first one warms up
        clips = dataset.__getitems__([(row % len(dataset), 0) for row in range(step * batch, (step + 1) * batch)])
        optimizer.zero_grad()
        cross_entropy(model(clips.inputs(training=True), clips.present).logits, clips.labels).backward()
        optimizer.step()
    return (process_time() - begun) / steps


def measure(system: System, store: Store, given: argparse.Namespace) -> Found:
    clip = ClipSettings(frames=given.frames, stride=given.stride, size=given.size)
    torch.manual_seed(0)
    model = build(system, store, clip, batch=given.batch)
    found = cost(model, *random_inputs(system, store, clip, 1), turns=given.turns)
    if not given.minutes:
        return found
    split, usual = split_videos(store.videos, seed=0), TrainSettings(recipe=system.recipe(clip, batch=given.batch))
    dataset, _ = make_datasets(store, split, system.streams, usual)
    epoch = step_seconds(model, dataset, batch=given.batch) * len(dataset) / given.batch
    found.epochs = max(1, round(60 * given.minutes / epoch))
    recipe = system.recipe(clip, batch=given.batch, epochs=found.epochs)
    machine = Machine(workers=0, device="cpu", save_minutes=60)
    top1, taken = [], []
    for seed in given.seeds:
        rows: list[dict] = []
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainSettings(data=store.path, run=Path(folder, "run"), seed=seed, recipe=recipe)
            settings = TrainSettings(**vars(settings) | {"streams": ",".join(system.streams), "machine": machine})
            begun = process_time()
            train(settings, lambda row, rows=rows: rows.append(row))
            taken.append(process_time() - begun)
        top1.append(rows[-1]["val_top1"])
    found.top1, found.cpu_seconds = tuple(top1), statistics.mean(taken)
    return found


def table(found: dict[str, Found]) -> str:
    lines = ["| system | GMACs | million weights | CPU ms a clip | epochs | CPU minutes | top-1 in % |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        top1 = ", ".join(f"{100 * value:.1f}" for value in one.top1) or "–"
        numbers = f"{one.gmacs:.2f} | {one.parameters / 1e6:.2f} | {one.ms:.0f} | {one.epochs}"
        lines.append(f"| {name} | {numbers} | {one.cpu_seconds / 60:.1f} | {top1} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS, metavar="NAME")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes of training a seed; 0: costs alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=9, help="of the milliseconds")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    store, found = Store(given.store), {}
    for name in given.systems:
        found[name] = measure(SYSTEMS[name], store, given)
        print(json.dumps({name: asdict(found[name])}), flush=True)
    print(table(found))
    settings = {name: value for name, value in vars(given).items() if name not in ("store", "systems")}
    print(json.dumps({"settings": settings, "systems": {name: asdict(one) for name, one in found.items()}}))


if __name__ == "__main__":
    main()
