"""Train any subset of the streams jointly.

    python train.py --streams rgb,flow,audio            # reads out.h5, writes runs/rgb+flow+audio
    python train.py --streams audio --data other.h5 --epochs 10 --run runs/ears
    python train.py --init runs/ears rgb=kinetics --towers rgb=r3d_18   # encoders from earlier training
    python train.py --pretrain contrast --run runs/pre      # encoders that learn without labels, for --init runs/pre
    python train.py --run runs/ears --resume            # resume from the last checkpoint; --epochs 40 trains longer
    torchrun --nproc-per-node 8 -- train.py --batch 256 # the same on eight GPUs: 32 clips a step on each

Without the -- torchrun would take --run for its own option.

A run's folder holds settings.json, split.json, metrics.jsonl, curves.png, TensorBoard's events, checkpoints, and best
and last weights as safetensors. Judge it with python -m tasks.evaluate runs/NAME --data out.h5.
"""

import os

from preprocess.common.stopping import Stopping, stop_at_once

if __name__ == "__main__":
    stop_at_once()

# Read when PyTorch is loaded: idle threads sleep instead of spinning. If anything else uses a core, spinning threads
# delay the working one, and a training step takes up to ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from fusion.device import choose_device, device_name
from fusion.model import FusionModel, build_model
from fusion.training.balance import BALANCES
from fusion.training.bar import Pace
from fusion.training.checkpoint import Checkpoints
from fusion.training.compiling import compile_encoders
from fusion.training.datasets import known_classes, make_datasets, middle_clips
from fusion.training.epoch import Saving, State, restore, train_one_epoch
from fusion.training.features import kept_features
from fusion.training.frozen import freeze_towers, frozen_streams, tower_rates
from fusion.training.log import Log
from fusion.training.meter import peak_flops
from fusion.training.norms import estimate_norms
from fusion.training.notes import run_notes
from fusion.training.pretrain import PRETEXTS, Pretext
from fusion.training.ranks import Ranks
from fusion.training.run import (
    About,
    claim,
    lengthen,
    own_settings,
    read_split,
    refuse_changes,
    save_weights,
    write_json,
)
from fusion.training.settings import Machine, Recipe, TrainSettings, differences, options
from fusion.training.step import Schedule, Step
from fusion.training.teacher import check_same_teacher, load_teacher, make_hints
from fusion.training.transfer import initialise
from fusion.training.validate import validate
from preprocess.common.command import available_cores, parse_command, run_command
from preprocess.common.console import with_progress
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.format import release
from streams.batch import ClipDataset
from streams.loader import EpochBatches, ViewBatches, make_loader
from streams.registry import parse_streams, streams_of, subset_name
from streams.split import group_numbers, split_videos


def train(
    settings: TrainSettings, on_epoch: Callable[[dict], bool] = lambda row: False, *, epochs: int | None = None
) -> Path:
    """Train one run, or resume it, for more `epochs` in all than before if they are given; return its folder.

    If one process trains, `on_epoch` is called with each epoch's logged values, and ends the run by returning True.

    Raises UserError for input that cannot be trained on.
    """
    with Ranks() as ranks, ExitStack() as held:
        run, settings = claim(settings, ranks, held, epochs=epochs)
        recipe, machine = settings.recipe, settings.machine
        store = Store(settings.data)
        streams = parse_streams(settings.streams, streams_of(store.parameters))
        classes = known_classes(store, recipe)
        if len(classes) == 1:
            raise UserError(f"{store.path} has one class, {store.classes[0]}: there is nothing to tell apart")
        split = (
            read_split(run)
            if settings.resume
            else split_videos(
                store.videos, seed=recipe.split_seed, name=str(store.path), with_labels=not recipe.pretrain
            )
        )
        train_set, val_set = make_datasets(store, split, streams, settings)
        teacher = load_teacher(recipe, store, streams)
        if settings.resume:
            check_same_teacher(run, teacher)
        device = choose_device(machine.device, ranks.local)
        torch.manual_seed(settings.seed)
        shape = {"classes": len(classes), "parameters": store.parameters, "segments": recipe.clip.segments}
        model = build_model(recipe.model, streams=streams, **shape)
        pretext = make_pretext(recipe, model, train_set)
        loaded = [] if settings.resume else initialise(model, settings.init)
        freeze_towers(model, frozen_streams(recipe.freeze, streams), None if settings.resume else loaded)
        model = model.to(device)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        workers = min(8, available_cores()) if device.type == "cuda" else 1
        workers = workers if machine.workers is None else machine.workers
        loading, mine = {"workers": workers, "pin": device.type == "cuda"}, {"rank": ranks.rank, "ranks": ranks.size}
        views = pretext.views if pretext else 1
        drawn = {"batch": recipe.batch, "parts": recipe.accumulate, "seed": settings.seed} | mine
        batches = EpochBatches(train_set, views=views, **drawn)
        loader = make_loader(train_set, batches, **loading)
        val_batches = ViewBatches(val_set, batch=recipe.batch, **mine)
        if pretext:  # in another order than the store's, in which neighbours are of one class
            val_batches = EpochBatches(val_set, views=views, batch=recipe.batch, seed=settings.seed, **mine)
        val_loader = make_loader(val_set, val_batches, **loading)
        norm_set = middle_clips(train_set, recipe.norm_clips, seed=settings.seed)
        norm_loader = make_loader(norm_set, EpochBatches(norm_set, **drawn), **loading)
        balance = BALANCES[recipe.balance](streams=streams, auxiliary=recipe.auxiliary, epochs=recipe.epochs)
        steps, rates = recipe.epochs * batches.total, tower_rates(recipe.lr_of, streams)
        shape = {"tower_lr": rates, "optimizer": recipe.optimizer}
        schedule = Schedule(lr=recipe.lr, weight_decay=recipe.weight_decay, steps=steps, **shape)
        step = Step(
            model,
            balance=balance,
            schedule=schedule,
            device=device,
            ranks=ranks,
            average=recipe.average,
            teacher=teacher and teacher.to(device),
            hints=teacher and make_hints(recipe, model, teacher),
            pretext=pretext,
        )
        state = State()
        checkpoints = Checkpoints(run, keep=machine.keep)
        if settings.resume:
            state = restore(checkpoints.load(), step)
        elif ranks.first:
            write_json(run / "split.json", asdict(split))
            facts = {"classes": classes, "parameters": store.parameters, "init": [asdict(one) for one in loaded]}
            facts |= {"teacher": teacher.facts()} if teacher else {}
            write_json(run / "settings.json", {"settings": asdict(settings)} | facts)
        kept, kept_lines = kept_features(model, store, recipe, device=device, workers=workers)
        for dataset in (train_set, val_set, norm_set):
            dataset.streams.update(kept)
        if teacher:
            teacher.join(train_set, model)
        # the same weights say the same, wherever and however often the run went on
        about = About(
            release(),
            replace(settings, run=None, resume=False, machine=Machine()),
            classes,
            store.parameters,
        )
        note = compile_encoders(model, device, machine.compile)
        if ranks.first:
            what = f"--pretrain {recipe.pretrain}, no labels" if pretext else f"{len(classes)} classes"
            print(f"{run}: {subset_name(streams)}, {what}, {parameters / 1e6:.1f} M parameters")
            for line in (line for one in loaded for line in one.lines()):
                print(line)
            for line in [*kept_lines, *(part.line() for part in (teacher, step.hints) if part)]:
                print(line)
            print(f"split: {len(train_set)} videos train, {len(val_set)} validate; {split.how}")
            precision = "bfloat16" if device.type == "cuda" else "float32"
            print(f"device: {device_name(device)}, {precision}{note}; {workers} reading processes")
            share = -(-recipe.batch // (ranks.size * recipe.accumulate))
            for line in run_notes(
                train_set, split, streams=streams, batch=views * share, workers=workers, processes=ranks.here
            ):
                print(f"note: {line}")
            before = lengthen(run, recipe.epochs)
            if before < recipe.epochs:
                rate = step.rate(state.epoch * batches.total + state.done)
                what = f"{recipe.epochs} epochs instead of {before}"
                print(f"{what}: the learning rate goes on along the curve of {recipe.epochs}, at {rate:.2g}")
            if state.epoch >= recipe.epochs:
                print("this run is complete; --resume --epochs N with more epochs trains it longer")
        save = Saving(checkpoints, step, every=60 * machine.save_minutes, active=ranks.first)
        decides = {"streams": settings.streams, "seed": settings.seed} | options(recipe, recipe.clip, recipe.model)
        log = held.enter_context(Log(run, epochs_done=state.epoch, settings=decides)) if ranks.first else None
        peak = peak_flops(device) if state.epoch < recipe.epochs else None
        stopping = held.enter_context(Stopping(answer="stopping after this step" if ranks.first else "").listening())
        pace = Pace(steps=recipe.epochs * batches.total, done=state.epoch * batches.total + state.done)
        for epoch in range(state.epoch, recipe.epochs):
            batches.epoch, batches.done = epoch, state.done
            row = train_one_epoch(loader, step, state, settings, save=save, stopping=stopping, peak=peak, pace=pace)
            if judged := (epoch + 1) % recipe.val_every == 0 or epoch + 1 == recipe.epochs:
                if recipe.norm_clips:
                    shown = with_progress(
                        norm_loader, unit="batch", name="batch norm", leave=False, hidden=not ranks.first
                    )
                    estimate_norms(step.judged, shown, device=device, seed=settings.seed)
                row |= validate(step, val_loader, val_set)
            score = (row["val_top1"], -row["val_loss"]) if judged else (-1.0, 0.0)
            if ranks.first:
                if score > state.best:
                    save_weights(run / "best.safetensors", step.judged, about)
                if judged:
                    save_weights(run / "last.safetensors", step.judged, about)
                log.add(row)
            if on_epoch(row):
                break
            state = State(epoch + 1, best=max(state.best, score))
            save(state, steps=(epoch + 1) * batches.total)
        if stopping.asked:  # since the last step: a caller that trains several runs must stop too
            raise KeyboardInterrupt(f"{run} is complete")
        if ranks.first and state.best[0] >= 0:
            judge = shlex.join(["python", "-m", "tasks.evaluate", str(run), "--data", str(store.path)])
            start = shlex.join(["python", "train.py", "--init", str(run), "--data", str(store.path)])
            then = f"start from it with: {start}" if pretext else f"judge it with: {judge}"
            print(f"best validation top-1 {state.best[0]:.1%}; {then}")
        return run


def make_pretext(recipe: Recipe, model: FusionModel, dataset: ClipDataset) -> Pretext | None:
    """What the encoders learn in place of the classes, if that is asked for; the model's heads then learn nothing."""
    if not recipe.pretrain:
        return None
    for heads in (model.auxiliary, model.head):
        heads.requires_grad_(False)
    units = group_numbers(dataset.videos)
    return PRETEXTS[recipe.pretrain](streams=tuple(model.encoders), feature=recipe.model.feature, units=units)


def main(settings: TrainSettings | None = None) -> None:
    parse = partial(parse_command, TrainSettings, prog="python train.py", doc=__doc__)
    settings, epochs = settings or parse(), None
    if settings.resume:
        own = own_settings(settings)
        settings = parse(default=own)  # an option that is not given means the run's own, not the usual
        epochs = settings.recipe.epochs
        settings = replace(settings, recipe=replace(settings.recipe, epochs=own.recipe.epochs))
        refuse_changes(own.run, differences(settings, own))
    train(settings, epochs=epochs)
    Ranks().end_process()


if __name__ == "__main__":
    run_command(main)
