"""Train any subset of the streams jointly.

    python train.py --streams rgb,flow,audio            # reads out.h5, writes runs/rgb+flow+audio
    python train.py --streams audio --data other.h5 --epochs 10 --run runs/ears
    python train.py --run runs/ears --resume            # go on after an interruption

A run's folder holds settings.json, split.json, metrics.jsonl, curves.png, TensorBoard's events, and best and
last weights as safetensors. Judge it with python -m tasks.evaluate runs/NAME --data out.h5.
"""

import os

# Read when PyTorch is loaded: threads that wait sleep instead of spinning. Where anything else uses a core, spinning
# threads hold up the one that works, and a training step takes up to ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import math
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from fusion.checkpoint import load_state, save_state, save_weights, write_json
from fusion.device import choose_device, device_name, mixed_precision
from fusion.log import Log
from fusion.model import FusionModel, ModelSettings, Output, build_model, drop_streams
from fusion.predict import answer, prepare
from preprocess.command import parse_command, run_command
from preprocess.errors import UserError, at_least
from preprocess.lock import only_one
from preprocess.store import Store
from streams import parse_streams, subset_name
from streams.batch import Batch, ClipDataset, EpochSampler, ViewSampler, make_loader
from streams.clip import ClipSettings
from streams.split import Split, split_videos

WARMUP = 0.05  # share of all steps in which the learning rate rises
LAST_RATE = 0.01  # share of the learning rate that is left at the end
NESTED = ("recipe", "machine", "clip", "model")  # settings within settings
CLIP_NORM = 5.0  # longest gradient: LSTMs now and then explode


@dataclass(frozen=True)
class Recipe:
    """How to train, whatever the streams."""

    epochs: int = 30
    """passes over the training videos, one random clip of each"""
    batch: int = 32
    """clips a step"""
    lr: float = 1e-3
    """highest learning rate; rises for 5 % of the steps, then falls along a cosine"""
    weight_decay: float = 0.05
    """decoupled weight decay (AdamW)"""
    auxiliary: float = 0.5
    """weight of the streams' own losses beside the fused one"""
    stream_dropout: float = 0.25
    """probability that a present stream is hidden from the fusion head, so that any subset can be asked"""
    label_smoothing: float = 0.0
    """share of the target that is spread over all classes"""
    split_seed: int = 0
    """which groups validate; apart from the seed, so that runs with several seeds share their videos"""
    clip: Annotated[ClipSettings, tyro.conf.arg(name="")] = field(default_factory=ClipSettings)
    model: Annotated[ModelSettings, tyro.conf.arg(name="")] = field(default_factory=ModelSettings)


@dataclass(frozen=True)
class Machine:
    """Where to train: nothing here changes what is learned."""

    workers: int | None = None
    """processes that read clips; the default is one for each core up to 8 with a GPU, else 1"""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto is cuda where there is one"""


@dataclass(frozen=True)
class TrainSettings:
    """The command line of train.py; a run's settings.json."""

    streams: str = "rgb,flow,audio"
    """which streams to train, separated by commas"""
    data: Path = Path("out.h5")
    """store to train on, from preprocess.extract"""
    run: Path | None = None
    """folder of the run; the default is named after the streams, below runs/"""
    seed: int = 0
    """of the weights, the clips and their augmentation"""
    resume: bool = False
    """go on with the run, with the settings that it was started with"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


def train(settings: TrainSettings) -> Path:
    """Train one run, or go on with it; return its folder.

    Raises UserError for input that cannot be trained on.
    """
    run = settings.run or default_run(parse_streams(settings.streams), resume=settings.resume)
    if settings.run is None and not settings.resume and run.name != subset_name(parse_streams(settings.streams)):
        print(f"note: there are earlier runs of these streams; this one is {run}")
    if settings.resume:
        settings = resume_settings(run, settings)
    elif (run / "state.pt").exists():  # without it the run ended within its first epoch, and nothing is lost
        raise UserError(f"{run} holds a run: go on with it with --resume, name another, or delete it")
    check(settings)
    recipe = settings.recipe
    streams = parse_streams(settings.streams)
    store = Store(settings.data)
    if len(store.classes) == 1:
        raise UserError(f"{store.path} has one class, {store.classes[0]}: there is nothing to tell apart")
    split = (
        read_split(run) if settings.resume else split_videos(store.videos, seed=recipe.split_seed, name=str(store.path))
    )
    train_set, val_set = make_datasets(store, split, streams, settings)
    device = choose_device(settings.machine.device)
    torch.manual_seed(settings.seed)
    model = build_model(recipe.model, streams=streams, classes=len(store.classes), parameters=store.parameters)
    model = model.to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sampler = EpochSampler(train_set, seed=settings.seed)
    workers = min(8, len(os.sched_getaffinity(0))) if device.type == "cuda" else 1
    workers = workers if settings.machine.workers is None else settings.machine.workers
    loading = {"workers": workers, "pin": device.type == "cuda"}
    train_loader = make_loader(train_set, sampler, batch=recipe.batch, **loading)
    val_loader = make_loader(val_set, ViewSampler(val_set), batch=recipe.batch, **loading)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    scheduler = make_scheduler(optimizer, steps=recipe.epochs * len(train_loader))

    run.mkdir(parents=True, exist_ok=True)
    first, best = 0, (-1.0, 0.0)
    if settings.resume:
        state = load_state(run / "state.pt", device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        first, best = state["epoch"], tuple(state["best"])
    else:
        write_json(run / "split.json", asdict(split))
        store_facts = {"classes": store.classes, "parameters": store.parameters}
        write_json(run / "settings.json", {"settings": asdict(settings)} | store_facts)
    print(f"{run}: {subset_name(streams)}, {len(store.classes)} classes, {parameters / 1e6:.1f} M parameters")
    print(f"split: {len(train_set)} videos train, {len(val_set)} validate; {split.how}")
    precision = "bfloat16" if device.type == "cuda" else "float32"
    print(f"device: {device_name(device)}, {precision}; {workers} reading processes")
    if first >= recipe.epochs:
        print("this run is complete")
    busy = f"{run} is being trained by another process: wait for it, or name another run"
    with only_one(run / "lock", busy=busy), Log(run, epochs_done=first) as log, resume_hint(run):
        for epoch in range(first, recipe.epochs):
            sampler.epoch = epoch
            row = train_one_epoch(model, train_loader, optimizer, scheduler, device, recipe, epoch)
            row |= validate(model, val_loader, val_set, device)
            score = (row["val_top1"], -row["val_loss"])
            if score > best:
                best = score
                save_weights(run / "best.safetensors", model)
            save_weights(run / "last.safetensors", model)
            log.add(row)
            trained = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
            states = {name: part.state_dict() for name, part in trained.items()}
            save_state(run / "state.pt", epoch=epoch + 1, best=best, **states)
    if first < recipe.epochs:
        judge = shlex.join(["python", "-m", "tasks.evaluate", str(run), "--data", str(store.path)])
        print(f"best validation top-1 {best[0]:.1%}; judge it with: {judge}")
    return run


@contextmanager
def resume_hint(run: Path) -> Iterator[None]:
    """Ctrl-C says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if (run / "state.pt").exists():
            print(f"\ngo on with: python train.py --run {shlex.quote(str(run))} --resume")
        else:
            print("\nno epoch was finished: start the run again")
        raise


def train_one_epoch(
    model: FusionModel,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
    recipe: Recipe,
    epoch: int,
) -> dict:
    """One pass over the training videos; returns what is logged of it."""
    model.train()
    start, clips, total = time.perf_counter(), 0, torch.zeros((), device=device)
    bar = tqdm(loader, desc=f"epoch {epoch + 1}/{recipe.epochs}", unit="batch", leave=False, disable=None)
    for batch in bar:
        batch = batch.to(device)
        with mixed_precision(device):
            use = drop_streams(batch.present, recipe.stream_dropout)
            output = model(prepare(batch, training=True), batch.present, use=use)
            loss = joint_loss(output, batch, recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(batch.labels)
        clips += len(batch.labels)
    seconds = time.perf_counter() - start
    loss = float(total) / clips
    if not math.isfinite(loss):
        raise UserError(f"the loss of epoch {epoch + 1} is not finite: try a smaller --lr (it is {recipe.lr})")
    return {
        "epoch": epoch + 1,
        "loss": loss,
        "lr": scheduler.get_last_lr()[0],
        "seconds": seconds,
        "clips_per_second": clips / seconds,
    }


def joint_loss(output: Output, batch: Batch, recipe: Recipe) -> torch.Tensor:
    """Cross-entropy of the fused answer, plus the mean of each stream's own over the clips that have it."""
    there = torch.stack(list(batch.present.values())).any(dim=0)
    loss = masked_loss(output.logits, batch.labels, there, recipe)
    own = [masked_loss(output.stream_logits[name], batch.labels, mask, recipe) for name, mask in batch.present.items()]
    return loss + recipe.auxiliary * torch.stack(own).mean()


def masked_loss(logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Mean cross-entropy over the rows of the mask; zero where there are none."""
    losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=recipe.label_smoothing)
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def validate(model: FusionModel, loader: DataLoader, dataset: ClipDataset, device: torch.device) -> dict:
    """Top-1 of the fused answer and of each stream alone, and the fused loss, on the middle clip of each video.

    A video that lacks a stream counts as wrong for it.
    """
    streams = tuple(dataset.streams)
    labels = torch.tensor([dataset.rows[video.label] for video in dataset.videos])
    subsets = list(dict.fromkeys([streams, *((name,) for name in streams)]))
    answers = answer(model, loader, subsets, videos=len(labels), classes=len(dataset.rows), device=device)
    row = {}
    for subset in subsets:
        name = subset_name(subset)
        right = (answers.probabilities(name).argmax(dim=1) == labels) & answers.answered(name)
        row["val_top1" if subset == streams else f"val_top1_{name}"] = right.double().mean().item()
    chosen = answers.probabilities(subset_name(streams)).gather(1, labels[:, None]).clamp(min=1e-12)
    return row | {"val_loss": -chosen.log().mean().item()}


def make_scheduler(optimizer: torch.optim.Optimizer, *, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up, then half a cosine."""
    warmup = max(1, round(WARMUP * steps))

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def make_datasets(
    store: Store, split: Split, streams: tuple[str, ...], settings: TrainSettings
) -> tuple[ClipDataset, ClipDataset]:
    """Training and validation videos. Those that have none of the streams are left out of training, with a note.

    Raises UserError if a stream is in no training video.
    """
    if settings.resume:
        _, saved = read_settings(settings.run)
        if saved["classes"] != store.classes:
            raise UserError(f"{store.path} has other classes than {settings.run} was started with: start a new run")
    by_path = {video.path: video for video in store.videos}
    gone = [path for path in split.train + split.val if path not in by_path]
    if gone:
        raise UserError(f"{store.path} lacks videos that this run trains on, for instance {gone[0]}")
    train_videos, val_videos = ([by_path[path] for path in part] for part in (split.train, split.val))
    for name in streams:
        if not any(video.streams[name] for video in train_videos):
            why = next(iter(video.why[name] for video in train_videos))
            others = ",".join(other for other in streams if other != name) or "another stream"
            raise UserError(f"no training video of {store.path} has {name} ({why}): train with --streams {others}")
    usable = [video for video in train_videos if any(video.streams[name] for name in streams)]
    if len(usable) < len(train_videos):
        print(f"note: {len(train_videos) - len(usable)} training videos have none of {', '.join(streams)}; left out")
    shared = {"streams": streams, "classes": store.classes, "clip": settings.recipe.clip}
    return ClipDataset(store, usable, seed=settings.seed, **shared), ClipDataset(store, val_videos, **shared)


def check(settings: TrainSettings) -> None:
    """Raises UserError for numbers that make no sense."""
    recipe, clip, model = settings.recipe, settings.recipe.clip, settings.recipe.model
    at_least(1, epochs=recipe.epochs, batch=recipe.batch, width=model.width, feature=model.feature)
    at_least(1, frames=clip.frames, stride=clip.stride)
    at_least(32, size=clip.size)
    at_least(0.1, audio_seconds=clip.audio_seconds)
    at_least(0, seed=settings.seed, split_seed=recipe.split_seed, workers=settings.machine.workers or 0)
    at_least(0, weight_decay=recipe.weight_decay, auxiliary=recipe.auxiliary)
    if not 0 < recipe.lr < math.inf:
        raise UserError(f"--lr must be positive, not {recipe.lr}")
    shares = {"stream-dropout": recipe.stream_dropout, "dropout": model.dropout}
    for name, share in (shares | {"label-smoothing": recipe.label_smoothing}).items():
        if not 0 <= share < 1:
            raise UserError(f"--{name} must be at least 0 and below 1, not {share}")


def default_run(streams: tuple[str, ...], *, resume: bool) -> Path:
    """A new folder runs/STREAMS, runs/STREAMS-2, …; to resume, the newest that there is."""
    base = Path("runs", subset_name(streams))
    taken = [base] if base.exists() else []
    while taken and (following := base.with_name(f"{base.name}-{len(taken) + 1}")).exists():
        taken.append(following)
    if resume:
        return taken[-1] if taken else base
    return base.with_name(f"{base.name}-{len(taken) + 1}") if taken else base


def resume_settings(run: Path, given: TrainSettings) -> TrainSettings:
    """The settings that `run` was started with; only the machine, and where the data lie, may have changed."""
    saved, _ = read_settings(run)
    for name, value in differences(given, TrainSettings()).items():
        if name in differences(given, saved) and name not in ("data", "run", "resume"):
            raise UserError(
                f"--resume goes on with the settings of {run}; leave out --{name.replace('_', '-')} {value}"
            )
    data = saved.data if given.data == TrainSettings.data else given.data
    return replace(saved, resume=True, data=data, machine=given.machine)


def differences(given: TrainSettings, other: TrainSettings) -> dict[str, object]:
    """The options, but for the machine's, in which `given` is not like `other`, with its values."""

    def flat(settings: TrainSettings) -> dict[str, object]:
        recipe = settings.recipe
        parts = (settings, recipe, recipe.clip, recipe.model)
        return {f.name: getattr(part, f.name) for part in parts for f in fields(part) if f.name not in NESTED}

    theirs = flat(other)
    return {name: value for name, value in flat(given).items() if value != theirs[name]}


def read_settings(run: Path) -> tuple[TrainSettings, dict]:
    """A run's settings, and what it knew of its store: classes and parameters."""
    try:
        saved = json.loads((run / "settings.json").read_text())
        values, _, _ = (saved[name] for name in ("settings", "classes", "parameters"))
        recipe = values["recipe"]
        model = ModelSettings(**recipe["model"] | {"towers": tuple(recipe["model"]["towers"])})
        nested = {
            "data": Path(values["data"]),
            "run": run,
            "recipe": Recipe(**recipe | {"clip": ClipSettings(**recipe["clip"]), "model": model}),
            "machine": Machine(**values["machine"]),
        }
        return TrainSettings(**values | nested), saved
    except FileNotFoundError as error:
        raise UserError(f"{run} is no run of train.py: it has no settings.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run}/settings.json is not what this version of train.py writes ({error})") from error


def read_split(run: Path) -> Split:
    try:
        return Split(**json.loads((run / "split.json").read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{run}/split.json is not what this version of train.py writes ({error})") from error


def main() -> None:
    train(parse_command(TrainSettings, prog="python train.py", doc=__doc__))


if __name__ == "__main__":
    run_command(main)
