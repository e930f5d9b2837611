"""The command lines of tasks.caption, apart from their code, so that --help need not wait for PyTorch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusion.settings import ModelSettings
from fusion.training.settings import Machine
from streams.clip import ClipSettings


@dataclass(frozen=True)
class CaptionRecipe:
    """How captions are learned."""

    decoder: str = "lstm"
    """model of the sentence
    lstm, transformer: words from a vocabulary of the captions;
    hf:NAME or hf:FOLDER: a causal language model of the transformers library, which is told what the streams show"""
    epochs: int = 30
    """passes over the videos, one random clip and one of its captions each"""
    batch: int = 32
    """clips a step"""
    lr: float = 3e-3
    """highest learning rate; rises for a tenth of the steps, then falls along a cosine"""
    decay: float = 0.05
    """decoupled weight decay"""
    optimizer: str = "muon"
    """muon or adamw, as of train.py. With hf it is always adamw, by which language models have learned"""
    channels: int = 128
    """width of the decoder"""
    layers: int = 1
    """layers of its model of the words"""
    drop: float = 0.2
    """share of the decoder's features that are hidden in training"""
    word_dropout: float = 0.15
    """share of the words before that are hidden in training, so that the next one is seen rather than guessed"""
    stream_dropout: float = 0.1
    """probability that a stream is hidden in training, so that the others can do without it"""
    concepts: float = 1.0
    """weight of a second loss, by which each stream's steps tell the caption's words by themselves; 0 is without.
    Not with hf"""
    look_price: float = 0.1
    """nats that it costs a word to look at a stream, from the second half of the training on: of two streams that go
    together in the captions learned from, a word keeps the one that it needs, if it has learned to use it by then; 0
    is without. Not with hf"""
    least_count: int = 1
    """how often a word must occur in the captions to be in the vocabulary"""
    stretch_sound: float = 0.15
    """largest share by which the bands and the time of sound are stretched in training: other voices, other speed"""
    tune: bool = False
    """with hf: let the language model learn too; it is then kept with the captioner"""


TOWERS = ModelSettings(towers=("rgb=places", "flow=coarse", "audio=vgg2d"))
CLIP = ClipSettings(  # a picture; five a second of a longer window, if the store has 25
    frames=1, stride=5, size=128, least_crop=0.9, judged_crop=1.0, flip=False, spec_tilt=1.0, spec_noise=0.5
)


@dataclass(frozen=True)
class TrainCaption:
    """Train a captioner on a store and sentences about its videos."""

    data: Path = Path("out.h5")
    """store of the videos, from preprocess.extract; those of its splits val and test are left out"""
    captions: Path = Path("captions.csv")
    """sentences about them: CSV with columns video, caption, a row each; or JSON, {video: [caption, …]}, or a list of
    {"clip": video, "captions": [caption, …]}; videos by their paths, or their names without the ending"""
    out: Path = Path("runs/captions")
    """folder of the captioner"""
    streams: str = "rgb,flow,audio"
    """streams to use, separated by commas"""
    init: Path | None = None
    """trained run whose encoders are used, with its streams and clips; without it, encoders learn from the captions"""
    freeze: bool = False
    """with --init: the encoders stay as they are"""
    seed: int = 0
    """seed of the weights, the clips and their augmentation"""
    recipe: Annotated[CaptionRecipe, tyro.conf.arg(name="")] = field(default_factory=CaptionRecipe)
    clip: Annotated[ClipSettings, tyro.conf.arg(name="")] = CLIP
    model: Annotated[ModelSettings, tyro.conf.arg(name="")] = TOWERS
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)


@dataclass(frozen=True)
class PredictCaption:
    """Write captions of videos: one of a short video, one of each window of a long one, with subtitles."""

    captioner: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CAPTIONER")]
    """folder of the captioner"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files, folders of them, or stores"""
    out: Path | None = None
    """folder for captions.json, captions.csv and for each video subtitles (.vtt)"""
    streams: str | None = None
    """use only these streams"""
    length: float | None = None
    """seconds of a window; the default is as long as the videos that the captioner learned from"""
    hop: float | None = None
    """seconds from one window to the next; the default is the length"""
    beam: int = 5
    """sentences that the search keeps"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


@dataclass(frozen=True)
class EvaluateCaption:
    """Judge a captioner: CIDEr-D, BLEU-4 and ROUGE-L from every subset of its streams."""

    captioner: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CAPTIONER")]
    """folder of the captioner"""
    data: Path = Path("test.h5")
    """store of videos that it has not learned from"""
    captions: Path = Path("captions.csv")
    """sentences about them, as for train"""
    out: Path | None = None
    """folder for report.json and captions of each subset; the default is one in the captioner's"""
    streams: str | None = None
    """judge only subsets of these"""
    beam: int = 5
    """sentences that the search keeps"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


Subcommand = (
    Annotated[TrainCaption, tyro.conf.subcommand("train")]
    | Annotated[PredictCaption, tyro.conf.subcommand("predict")]
    | Annotated[EvaluateCaption, tyro.conf.subcommand("evaluate")]
)


@dataclass(frozen=True)
class CaptionSettings:
    """The command line of tasks.caption."""

    do: Annotated[Subcommand, tyro.conf.arg(name="")]
