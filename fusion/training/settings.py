"""Settings of a run: recipe, machine, data, clips, model."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from fusion.settings import ModelSettings
from preprocess.common.errors import UserError, at_least
from streams.clip import ClipSettings

NESTED = ("recipe", "machine", "clip", "model")  # settings within settings
SEEDS = 1 << 31  # limit of seeds: a seed, a step and a rank must fit into the 64 bits of a generator's seed


@dataclass(frozen=True)
class Recipe:
    """The training recipe, for any streams."""

    epochs: int = 30
    """passes over the training videos, one random clip of each"""
    batch: int = 32
    """clips a step, over all processes"""
    lr: float = 1e-3
    """highest learning rate; rises for 5 % of the steps, then falls along a cosine"""
    weight_decay: float = 0.05
    """decoupled weight decay (Loshchilov and Hutter 2019)"""
    optimizer: str = "adamw"
    """adamw; or muon: matrices and kernels step along the nearest orthogonal matrix of their momentum, all else by
    AdamW, at the same --lr"""
    auxiliary: float = 0.5
    """weight of the streams' own losses beside the fused one; without it their own heads learn nothing"""
    balance: str = "auxiliary"
    """method that keeps one stream from learning at the others' expense:
    auxiliary: every stream's own loss beside the fused one, with the weight --auxiliary;
    blending: their weights follow from how the losses generalise, on the validation videos, not from --auxiliary;
    ogm-ge: the encoder of a stream whose own head is ahead of the others' learns more slowly, and with noise;
    opm: a stream whose own head is ahead of the others' is often hidden from the fusion head;
    mmpareto: an encoder's step is good for the fused loss and for its own, whatever --auxiliary;
    detached: encoders learn from their own losses alone, whatever --auxiliary, and the head from what they make"""
    pretrain: str = ""
    """learn without labels, for another run to start from with --init:
    contrast: the features of two streams of a clip are alike and those of other videos differ; of a single stream,
    those of two clips of a video;
    order: each stream tells the order of a clip's three pieces, which have changed places"""
    stream_dropout: float = 0.25
    """probability that a present stream is hidden from the fusion head, so that any subset can be evaluated"""
    label_smoothing: float = 0.0
    """share of the target that is spread over all classes"""
    mixup: float = 0.0
    """alpha of mixup: every clip is blended with another one of its batch, in all streams alike; 0 is without"""
    cutmix: float = 0.0
    """alpha of CutMix: a box of the pictures, and a stretch of the sound, come from another clip; 0 is without; with
    --mixup too, each batch gets one of them"""
    average: float = 0.0
    """share of the old in an exponential moving average of the weights, for instance 0.99, which is what is judged and
    kept; 0 is without"""
    norm_clips: int = 0
    """training clips that batch norm's statistics are taken from before each validation, for instance 256, cut as
    judged ones are; 0 leaves those that were gathered while learning, from mixed clips and random crops"""
    val_every: int = 1
    """epochs from one validation to the next, which is also when weights are saved; the last epoch always has one"""
    freeze: str = ""
    """streams whose towers keep their weights and batch norm's statistics, separated by commas; all else learns"""
    keep_features: bool = True
    """the features of frozen image towers, and of YAMNet, are computed once, from clips that nothing is done to, and
    kept beside the store, so that an epoch takes a second, and clips begin at whole strides; without, they are computed
    anew for every clip, augmented"""
    lr_of: tuple[str, ...] = ()
    """highest learning rates of towers, as STREAM=RATE, where it is not --lr"""
    teacher: Path | None = None
    """trained run, or its .safetensors file, of any streams and the same classes and clips, whose answers are learned
    beside the labels: of its own streams of the same clips"""
    distil: float = 0.5
    """share of the target that is the teacher's answer; the rest is the label"""
    hint: float = 3.0
    """weight of the loss by which towers learn to predict those of the teacher of streams that this run lacks"""
    temperature: float = 1.0
    """the teacher's logits are divided by it: above 1 its answers are softer"""
    accumulate: int = 1
    """parts that a step's clips go through the model in, one after the other, where memory is short; the gradients are
    those of the whole, but for batch norm, which sees each part by itself"""
    split_seed: int = 0
    """seed of the choice of validation groups; apart from --seed, so that runs with several seeds share their videos"""
    clip: Annotated[ClipSettings, tyro.conf.arg(name="")] = field(default_factory=ClipSettings)
    model: Annotated[ModelSettings, tyro.conf.arg(name="")] = field(default_factory=ModelSettings)


@dataclass(frozen=True)
class Machine:
    """The machine to train on: nothing here changes what is learned."""

    workers: int | None = None
    """processes that read clips; the default is one for each core up to 8 with a GPU, else 1"""
    device: str = "auto"
    """cpu, cuda, cuda:1 …; auto is cuda where there is one"""
    compile: bool | None = None
    """compile the model with torch.compile; the default is to do it on a GPU"""
    save_minutes: float = 5.0
    """minutes from one checkpoint to the next; an interrupted run goes on from the last one"""
    keep: int = 2
    """checkpoints that are kept"""


@dataclass(frozen=True)
class TrainSettings:
    """The command line of train.py; a run's settings.json."""

    streams: str = "rgb,flow,audio"
    """streams to train, separated by commas"""
    data: Path = Path("out.h5")
    """store to train on, from preprocess.extract"""
    run: Path | None = None
    """folder of the run; the default is named after the streams, below runs/"""
    seed: int = 0
    """seed of the weights, the clips and their augmentation"""
    init: tuple[str, ...] = ()
    """encoders to start from: runs or files of weights (.safetensors, .pt, .pth). PATH is for every stream that it has,
    STREAM=PATH for one; STREAM=kinetics downloads torchvision's, for its towers; image networks and
    those of libraries start from their published weights without being told (STREAM=imagenet, STREAM=published)"""
    resume: bool = False
    """go on with the run, with the settings that it was started with; more --epochs than these train it longer"""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


def validate(settings: TrainSettings) -> None:
    """Raises UserError for invalid numbers."""
    from fusion.training.balance import BALANCES  # these load PyTorch, for which --help must not wait
    from fusion.training.frozen import frozen_streams, tower_rates
    from fusion.training.optimizers import check_optimizer
    from fusion.training.pretrain import PIECES, PRETEXTS
    from preprocess.store.kinds import KINDS, Pictures
    from streams.registry import parse_streams

    recipe, machine, clip, model = settings.recipe, settings.machine, settings.recipe.clip, settings.recipe.model
    at_least(1, epochs=recipe.epochs, batch=recipe.batch, width=model.width, feature=model.feature)
    at_least(1, frames=clip.frames, stride=clip.stride, segments=clip.segments)
    at_least(32, size=clip.size)
    at_least(0.1, audio_seconds=clip.audio_seconds)
    at_least(1, accumulate=recipe.accumulate, val_every=recipe.val_every, keep=machine.keep)
    at_least(0, seed=settings.seed, split_seed=recipe.split_seed, workers=machine.workers or 0)
    at_least(0, norm_clips=recipe.norm_clips)
    at_least(0, distil=recipe.distil, hint=recipe.hint)
    at_least(0, spec_tilt=clip.spec_tilt, spec_noise=clip.spec_noise)
    at_least(0, mixup=recipe.mixup, cutmix=recipe.cutmix)
    at_least(0, weight_decay=recipe.weight_decay, auxiliary=recipe.auxiliary, save_minutes=machine.save_minutes)
    if recipe.balance not in BALANCES:
        raise UserError(f"unknown --balance '{recipe.balance}': known are {', '.join(BALANCES)}")
    check_optimizer(recipe.optimizer)
    if recipe.pretrain:
        if recipe.pretrain not in PRETEXTS:
            raise UserError(f"unknown --pretrain '{recipe.pretrain}': known are {', '.join(PRETEXTS)}")
        at_least(2, batch=recipe.batch)
        at_least(PIECES, frames=clip.frames)
        if recipe.pretrain == "order" and clip.segments not in (1, PIECES):
            raise UserError(f"--pretrain order tells {PIECES} pieces apart: --segments can be 1 or {PIECES}")
        for name in ("balance", "mixup", "cutmix", "average", "teacher"):
            if getattr(recipe, name) != getattr(Recipe, name):
                raise UserError(f"--{name} has no part in --pretrain {recipe.pretrain}: leave it out")
    if settings.seed >= SEEDS:
        raise UserError(f"--seed must be below {SEEDS}, not {settings.seed}")
    if not 0 < recipe.lr < math.inf:
        raise UserError(f"--lr must be positive, not {recipe.lr}")
    streams = parse_streams(settings.streams, None)
    tower_rates(recipe.lr_of, streams, frozen=frozen_streams(recipe.freeze, streams))
    for name in clip.own_streams():
        if name not in streams or not isinstance(KINDS.get(name), Pictures):
            those = ", ".join(one for one in streams if isinstance(KINDS.get(one), Pictures)) or "none"
            raise UserError(f"--clip-of {name}=…: name a stream of pictures that this run trains; it has {those}")
        if recipe.pretrain and clip.of(name).frames < PIECES:
            raise UserError(f"--clip-of {name}={clip.of(name).shape}: --pretrain needs {PIECES} frames or more")
    if not 0 < clip.least_crop <= 1:
        raise UserError(f"--least-crop must be above 0 and at most 1, not {clip.least_crop}")
    if not 0 < recipe.temperature < math.inf:
        raise UserError(f"--temperature must be positive, not {recipe.temperature}")
    if recipe.distil > 1:
        raise UserError(f"--distil is a share of the target, at most 1, not {recipe.distil}")
    shares = {
        "stream-dropout": recipe.stream_dropout,
        "dropout": model.dropout,
        "label-smoothing": recipe.label_smoothing,
        "average": recipe.average,
        "spec-mask": clip.spec_mask,
        "recolour": clip.recolour,
    }
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise UserError(f"--{name} must be at least 0 and below 1, not {share}")


def need_classes(recipe: Recipe) -> None:
    """Raises UserError for a recipe whose runs cannot be judged."""
    if recipe.pretrain:
        raise UserError(f"--pretrain {recipe.pretrain} makes no classifier to judge: use it with train.py")


def differences(given: TrainSettings, other: TrainSettings) -> dict[str, object]:
    """The options, except the machine's, in which `given` differs from `other`, with its values."""

    ours, theirs = (options(one, one.recipe, one.recipe.clip, one.recipe.model) for one in (given, other))
    return {name: value for name, value in ours.items() if value != theirs[name]}


def options(*parts: object) -> dict[str, object]:
    """The options of these settings by name, without nested settings."""
    return {f.name: getattr(part, f.name) for part in parts for f in fields(part) if f.name not in NESTED}
