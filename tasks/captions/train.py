"""Training of a captioner: encoders and decoder together, from sentences about videos."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from fusion.device import choose_device, mixed_precision
from fusion.model import FusionModel, build_model, drop_streams
from fusion.training.datasets import check_presence
from fusion.training.optimizers import check_optimizer, make_optimizer
from fusion.training.run import About, save_weights, write_json
from fusion.training.settings import Recipe, TrainSettings, validate
from preprocess.common.command import available_cores
from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from preprocess.store.format import release
from preprocess.store.index import Video
from streams.batch import Batch, ClipDataset
from streams.loader import EpochBatches, make_loader
from streams.registry import parse_streams, streams_of, subset_name
from streams.spec import FEATURES, GIVEN
from tasks.captions.augment import stretch_sound
from tasks.captions.captioner import DECODER, TOWERS, Captioner, build_decoder, save_captioner
from tasks.captions.concepts import Concepts
from tasks.captions.decoder import Decoder
from tasks.captions.evidence import Evidence, channels_of, evidence, has_places
from tasks.captions.language import is_language
from tasks.captions.references import read_captions, videos_with_captions
from tasks.captions.settings import CaptionRecipe, TrainCaption
from tasks.captions.vocabulary import Vocabulary
from tasks.captions.words import WORDS
from tasks.folder import output_folder
from tasks.model import Model, load

CLIP_NORM = 1.0  # largest norm of the gradient
WARMUP = 0.1  # share of the steps in which the learning rate rises
LEFT_OUT = ("val", "test")  # splits that training does not read
SOUND = 3  # axes of a batch of log-mel, (B, M, T)


def train_captioner(settings: TrainCaption) -> Captioner:
    """Train, write the folder, return the captioner.

    Raises UserError for settings, a store or captions that cannot be learned from, or a folder that holds a captioner.
    """
    recipe = check_recipe(settings.recipe)
    shape = Recipe(clip=settings.clip, model=settings.model)
    validate(TrainSettings(streams=settings.streams, seed=settings.seed, recipe=shape, machine=settings.machine))
    if (settings.out / DECODER).exists():
        raise UserError(f"{settings.out} holds a captioner: name another folder with --out, or delete it")
    if settings.freeze and not settings.init:
        raise UserError("--freeze keeps the encoders of a trained run: name it with --init")
    store = Store(settings.data)
    known = videos_with_captions(store, read_captions(settings.captions), path=settings.captions)
    known = [(video, its) for video, its in known if video.split not in LEFT_OUT]
    if not known:
        raise UserError(f"all videos of {settings.captions} are in the splits {' and '.join(LEFT_OUT)}: none to learn")
    with output_folder(settings.out):
        torch.manual_seed(settings.seed)
        model = make_model(settings, store, [video for video, _ in known])
        check_places(model)
        vocabulary = Vocabulary.of((text for _, its in known for text in its), least=recipe.least_count)
        decoder = build_decoder(model, recipe, vocabulary).to(model.device)
        seconds = statistics.median(video.seconds for video, _ in known)
        what = "a language model's" if is_language(recipe.decoder) else plural(len(vocabulary), "word")
        print(
            f"{settings.out}: {subset_name(model.streams)}, {plural(sum(len(its) for _, its in known), 'caption')} of "
            f"{plural(len(known), 'video')}, words: {what}"
        )
        captioner = Captioner(model, decoder, recipe, seconds)
        learn(captioner, store, known, settings)
        settings.out.mkdir(parents=True, exist_ok=True)
        about = About(release(), model.settings, model.classes, store.parameters)
        save_weights(settings.out / TOWERS, model.network, about)
        save_captioner(settings.out, captioner, vocabulary)
        write_json(settings.out / "settings.json", settings)
    print(f"judge it with: python -m tasks.caption evaluate {settings.out} --data TEST.h5 --captions TEST.json")
    return captioner


def check_recipe(recipe: CaptionRecipe) -> CaptionRecipe:
    """Raises UserError for an unknown decoder, or a number that cannot be."""
    if recipe.decoder not in WORDS and not is_language(recipe.decoder):
        raise UserError(f"unknown --decoder '{recipe.decoder}': known are {', '.join(WORDS)}, hf:NAME and hf:FOLDER")
    check_optimizer(recipe.optimizer)
    at_least(1, epochs=recipe.epochs, batch=recipe.batch, channels=recipe.channels, layers=recipe.layers)
    at_least(1, least_count=recipe.least_count)
    at_least(0, decay=recipe.decay, look_price=recipe.look_price, concepts=recipe.concepts)
    if not 0 < recipe.lr < float("inf"):
        raise UserError(f"--lr must be positive, not {recipe.lr}")
    for name in ("drop", "word_dropout", "stream_dropout", "stretch_sound"):
        if not 0 <= getattr(recipe, name) < 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} is a share from 0 on and below 1, not {getattr(recipe, name)}")
    if recipe.channels % 4:
        raise UserError(f"--channels must be a multiple of 4, not {recipe.channels}")
    return recipe


def make_model(settings: TrainCaption, store: Store, videos: Sequence[Video]) -> Model:
    """The encoders: new ones, or those of --init with their clips.

    Raises UserError for streams or towers that cannot be had.
    """
    if settings.init:
        model = load(settings.init, device=settings.machine.device)
        if not isinstance(model.network, FusionModel):
            raise UserError(f"{settings.init} is an exported model, which cannot learn: use the run")
        if model.parameters.get("fps") != store.fps:
            raise UserError(f"{store.path} has {store.fps} frames a second, {settings.init} learned from {model.fps}")
        check_presence(store, videos, model.streams)
        return model
    streams = parse_streams(settings.streams, streams_of(store.parameters))
    check_presence(store, videos, streams)
    towers = tuple(text for text in settings.model.towers if text.partition("=")[0] in streams)
    shape = replace(settings.model, towers=towers)
    network = build_model(
        shape, streams=streams, classes=0, parameters=store.parameters, segments=settings.clip.segments
    )
    device = choose_device(settings.machine.device)
    recipe = Recipe(clip=settings.clip, model=shape, pretrain="contrast")  # which says that it has no classes
    made = TrainSettings(streams=",".join(streams), data=settings.data, seed=settings.seed, recipe=recipe)
    return Model(settings.out / TOWERS, network.to(device), streams, [], made, store.parameters, release(), device)


def check_places(model: Model) -> None:
    """Raises UserError if streams that are to be attended together have other places."""
    clips = {
        name: (own.pictures, -(-own.size // 16))
        for name, encoder in model.network.encoders.items()
        if has_places(encoder) and (own := model.clip.of(name))
    }
    if len(set(clips.values())) > 1:
        told = ", ".join(f"{name} {count} × {side} × {side}" for name, (count, side) in clips.items())
        raise UserError(f"these streams have other places ({told}): give them the same --clip-of, or none")


@dataclass(frozen=True)
class Learning:
    """What learns, and how fast."""

    optimizer: torch.optim.Optimizer
    rate: torch.optim.lr_scheduler.LRScheduler
    parameters: list[nn.Parameter]
    concepts: Concepts | None


def learn(captioner: Captioner, store: Store, known: Sequence[tuple[Video, list[str]]], settings: TrainCaption) -> None:
    """Train encoders and decoder on videos and their captions; both are in evaluation mode afterwards."""
    model, recipe, device = captioner.model, captioner.recipe, captioner.model.device
    videos = [video for video, _ in known]
    clip = replace(model.clip, flip=settings.clip.flip)  # those of --init may have been mirrored
    shape = {"streams": model.streams, "classes": [], "clip": clip, "whole_strides": model.whole_strides}
    dataset = ClipDataset(store, videos, seed=settings.seed, **shape)
    batches = EpochBatches(dataset, batch=recipe.batch, seed=settings.seed)
    workers = min(8, available_cores()) if device.type == "cuda" else 1
    workers = workers if settings.machine.workers is None else settings.machine.workers
    loader = make_loader(dataset, batches, workers=workers, pin=device.type == "cuda")
    learning = _learning(captioner, recipe, steps=recipe.epochs * batches.total, freeze=settings.freeze)
    _mode(captioner, True, freeze=settings.freeze)
    with progress(total=recipe.epochs * batches.total, unit="step", name="captions") as bar:
        for epoch in range(recipe.epochs):
            batches.epoch = epoch
            rng = np.random.default_rng((settings.seed, epoch))
            total = 0.0
            for batch in loader:
                texts = [known[row][1][rng.integers(len(known[row][1]))] for row in batch.videos.tolist()]
                price = recipe.look_price * price_share(bar.n / bar.total)
                total += _step(captioner, batch.to(device), texts, learning, price=price)
                bar.update()
            bar.set_postfix_str(f"loss {total / batches.total:.3f}")
    _mode(captioner, False, freeze=settings.freeze)


def _mode(captioner: Captioner, training: bool, *, freeze: bool) -> None:
    captioner.model.network.train(training and not freeze)
    captioner.decoder.train(training)


def _learning(captioner: Captioner, recipe: CaptionRecipe, *, steps: int, freeze: bool) -> Learning:
    network = captioner.model.network
    for part in (network.auxiliary, network.head):  # they have no part in captions
        part.requires_grad_(False)
    if freeze:
        network.requires_grad_(False)
    concepts = None
    if recipe.concepts and isinstance(captioner.decoder, Decoder):
        channels = channels_of(network.encoders)
        concepts = Concepts(captioner.decoder.vocabulary, channels=channels).to(captioner.model.device)
    parts = [network, captioner.decoder, *([concepts] if concepts else [])]
    parameters = [one for part in parts for one in part.parameters() if one.requires_grad]
    name = "adamw" if is_language(recipe.decoder) else recipe.optimizer
    optimizer = make_optimizer(name, parameters, lr=recipe.lr, weight_decay=recipe.decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=steps, pct_start=WARMUP)
    return Learning(optimizer, rate, parameters, concepts)


def price_share(done: float) -> float:
    """The share of the training that is done → of the price of looking, which would keep slow words from being learned.

    Nothing until the middle, all of it from three quarters on.
    """
    return min(1.0, max(0.0, 4 * done - 2))


def _step(captioner: Captioner, batch: Batch, texts: Sequence[str], learning: Learning, *, price: float) -> float:
    """One step; the loss."""
    recipe, device = captioner.recipe, captioner.model.device
    shown = batch_evidence(captioner.model, batch, training=captioner.decoder.training, stretch=recipe.stretch_sound)
    shown = replace(shown, present=drop_streams(shown.present, recipe.stream_dropout))
    with mixed_precision(device):
        loss = captioner.decoder.loss(shown, texts, price=price)
        if learning.concepts:
            loss = loss + recipe.concepts * learning.concepts.loss(shown, texts)
    learning.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(learning.parameters, CLIP_NORM)
    learning.optimizer.step()
    learning.rate.step()
    return loss.item()


def batch_evidence(model: Model, batch: Batch, *, training: bool, stretch: float) -> Evidence:
    """What a decoder attends to, of a batch on the model's device, augmented in training."""
    inputs = batch.inputs(training=training)
    for name, clip in inputs.items():
        if training and stretch and clip.ndim == SOUND and not batch.clips[name].keys() & {FEATURES, GIVEN}:
            inputs[name] = stretch_sound(clip, stretch)
    with mixed_precision(model.device):
        found = model.network.encode(inputs, batch.present, rows=batch.rows)
    return evidence(model.network.encoders, found.towers, found.sequences, batch.present)
