"""Make videos of which the best accuracy that any model can reach is known, for every subset of the streams.

    python -m preprocess.synth videos/                    # 320 videos to train on, 400 to test on
    python -m preprocess.extract videos/ out.h5 --labels videos/labels.csv
    python -m preprocess.synth pairs/ --task with-or-against
    python -m preprocess.synth order/ --task order

three-bits: every class is three independent bits, each of which one stream alone can perceive: at best 25 % with one
stream, 50 % with two, 100 % with three. Evidence only adds up. with-or-against: a patch faces left or right, which RGB
alone can see, over stripes that drift left or right, which flow alone can; the class is whether the two agree. One
stream is at chance, 50 %, RGB and flow reach 100 %, but only for a model that joins their features. order: all videos
show the same two moments, and the class is which came first, in at least two of three streams: at best 75 % with one
stream or two, 100 % with three, for a model that remembers; 50 %, chance, for the mean over clips of up to 0.4 s.

Clearly more than these ceilings (ceilings.json) proves a leak; much less, a weak model.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import csv
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import progress
from preprocess.common.errors import UserError

SIZE = 64  # pixels of a side
FPS = 25
SAMPLE_RATE = 16_000
LUMA = 125.0  # of the patch, for either hue: flow, which is computed on luma, cannot tell them apart
CHROMA = 45.0  # distance of the patch's Cb and Cr from grey
BITS = {"rgb": ("orange", "blue"), "flow": ("up", "down"), "audio": ("ah", "ee")}  # stream → the bit's two values
HUES = {"orange": (-1.0, 0.75), "blue": (1.0, -0.5), "grey": (0.0, 0.0)}  # direction in the (Cb, Cr) plane
FACING = {"left": ("blue", "orange"), "right": ("orange", "blue")}  # the hues of a patch's halves: blue is its face
OTHER = {"left": "right", "right": "left"}
DRIFT = {"up": 1.0, "down": -1.0, "left": 1.0, "right": -1.0, "still": 0.0}  # direction → sign of the phase's change
FORMANTS = {  # Hz: the vowels in father, see and about
    "ah": (750.0, 1150.0, 2500.0),
    "ee": (290.0, 2250.0, 3000.0),
    "uh": (500.0, 1500.0, 2500.0),
}
FORMANT_WIDTH = 120.0  # Hz
QUARTER = 0.25  # of the grating's period that it drifts a frame: two frames on it looks alike for both directions
MARGIN = 10  # frames at least before and after a moment in which nothing is told: no clip up to 0.4 s tells an order
MOMENT = 25  # frames at least of a moment


@dataclass(frozen=True)
class SynthSettings:
    """The command line of preprocess.synth."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """folder to make; it must not exist, or be empty"""
    task: str = "three-bits"
    """three-bits; with-or-against, in which two streams mean nothing but together; or order, of two moments"""
    train: int = 320
    """training videos, in equal numbers for all classes"""
    test: int = 400
    """test videos, likewise; never used in training"""
    seconds: tuple[float, float] | None = None
    """shortest and longest video; the default is 1.0 1.4, of order 4.4 5.6"""
    seed: int = 0
    """seed of everything random"""


@dataclass(frozen=True)
class Shot:
    """What a video, or a part of it, shows and sounds like."""

    frames: int
    hues: tuple[str, str]  # of the left and the right half of the patch
    direction: str  # of the stripes: up, down, left, right, still
    vowel: str


@dataclass(frozen=True)
class Task:
    """A kind of made videos."""

    classes: tuple[str, ...]
    shots: Callable[[str, int, np.random.Generator], list[Shot]]  # label, frames → what follows each other
    ceilings: dict[str, float]  # subset of the streams, "rgb+audio" → the best top-1 that any model can reach
    seconds: tuple[float, float] = (1.0, 1.4)  # shortest and longest video, by default
    least: float = 0.2  # seconds of the shortest possible video


def _three_bits(label: str, frames: int, rng: np.random.Generator) -> list[Shot]:
    hue, direction, vowel = label.split("-")
    return [Shot(frames, (hue, hue), direction, vowel)]


def _with_or_against(label: str, frames: int, rng: np.random.Generator) -> list[Shot]:
    facing, vowel = rng.choice(list(FACING)), rng.choice(BITS["audio"])
    return [Shot(frames, FACING[facing], facing if label == "with" else OTHER[facing], vowel)]


def _order(label: str, frames: int, rng: np.random.Generator) -> list[Shot]:
    """Two halves alike but for their moments: nothing, a moment of random place and length, nothing.

    The second moment has the other value of every bit. A clip that is not longer than MARGIN sees at most one moment,
    and at a random time it sees the same with the same probability in a video of the other class: halves exchanged.
    """
    first = _most_bits(label, rng)
    second = [pair[1 - pair.index(bit)] for pair, bit in zip(BITS.values(), first, strict=True)]
    shots = []
    for hue, direction, vowel in (first, second):
        moment = MOMENT + int(rng.integers(frames // 2 - MOMENT - 2 * MARGIN + 1))
        before = MARGIN + int(rng.integers(frames // 2 - moment - 2 * MARGIN + 1))
        nothing = (("grey", "grey"), "still", "uh")
        shots += [
            Shot(before, *nothing),
            Shot(moment, (hue, hue), direction, vowel),
            Shot(frames // 2 - before - moment, *nothing),
        ]
    return shots


def _most_bits(label: str, rng: np.random.Generator) -> list[str]:
    """A value of every bit, of which at least two are the label's."""
    value = ORDERS.index(label)
    odd = int(rng.integers(len(BITS) + 1))  # the bit that is the other, or none
    return [pair[1 - value if at == odd else value] for at, pair in enumerate(BITS.values())]


SUBSETS = [subset for size in range(1, len(BITS) + 1) for subset in combinations(BITS, size)]
BIT_CLASSES = tuple(map("-".join, product(*BITS.values())))
ORDERS = ("forwards", "backwards")  # the first or the second of most bits' values comes first
BIT_CEILINGS = {"+".join(subset): 2.0 ** len(subset) / 2 ** len(BITS) for subset in SUBSETS}
TASKS = {
    "three-bits": Task(classes=BIT_CLASSES, shots=_three_bits, ceilings=BIT_CEILINGS),
    "order": Task(
        classes=ORDERS,
        shots=_order,
        ceilings={"+".join(subset): 1.0 if len(subset) == len(BITS) else 0.75 for subset in SUBSETS},
        seconds=(4.4, 5.6),
        least=2 * (MOMENT + 2 * MARGIN + 1) / FPS,
    ),
    "with-or-against": Task(
        classes=("with", "against"),
        shots=_with_or_against,
        ceilings={"+".join(subset): 1.0 if {"rgb", "flow"} <= {*subset} else 0.5 for subset in SUBSETS},
    ),
}


def synthesise(settings: SynthSettings) -> None:
    """Write <class>/<number>.mp4, labels.csv (path, label, split) and ceilings.json below `settings.out`.

    Raises UserError for an unknown task, if the folder is not empty, or if classes would have unequal numbers.
    """
    if settings.task not in TASKS:
        raise UserError(f"unknown --task '{settings.task}': known are {', '.join(TASKS)}")
    task = TASKS[settings.task]
    if settings.out.exists() and any(settings.out.iterdir()):
        raise UserError(f"{settings.out} is not empty: name a new folder")
    counts = (settings.train, settings.test)
    if any(count % len(task.classes) or count < 0 for count in counts) or not sum(counts):
        raise UserError(f"--train and --test must be multiples of {len(task.classes)}, for classes of equal size")
    seconds = settings.seconds or task.seconds
    if not task.least <= seconds[0] <= seconds[1]:
        raise UserError(f"--seconds needs the shortest, at least {task.least}, then the longest")
    jobs = []
    rows = []
    for number in range(settings.train + settings.test):
        split = "train" if number < settings.train else "test"
        label = task.classes[number % len(task.classes)]
        path = f"{label}/{number:05d}.mp4"
        (settings.out / label).mkdir(parents=True, exist_ok=True)
        jobs.append((settings.out / path, settings.task, label, seconds, (settings.seed, number)))
        rows.append({"path": path, "label": label, "split": split})
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        written = pool.map(_write_video, jobs, chunksize=8)
        for _ in progress(written, total=len(jobs), unit="video", name="synthesise"):
            pass
    with open(settings.out / "labels.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["path", "label", "split"])
        table.writeheader()
        table.writerows(rows)
    (settings.out / "ceilings.json").write_text(json.dumps(task.ceilings, indent=1) + "\n")


def picture_sequence(hues: tuple[str, str], direction: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Planar YUV 4:2:0 frames, (T, 3 / 2 SIZE, SIZE) uint8: a still coloured patch over a drifting grey grating.

    `hues` are those of the patch's left and right half. Random: the grating's period, phase, tilt and contrast, the
    patch's place and size, the brightness, noise.
    """
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    if direction in ("left", "right"):
        y, x = x, y
    period = rng.uniform(8.0, 14.0)
    tilt = np.deg2rad(rng.uniform(-20, 20))
    phase = rng.uniform(0, 2 * np.pi)
    contrast = rng.uniform(35, 60)
    brightness = rng.uniform(105, 145)
    along = (y * np.cos(tilt) + x * np.sin(tilt)) / period
    time = np.arange(frames)[:, None, None]
    luma = brightness + contrast * np.cos(2 * np.pi * (along + DRIFT[direction] * QUARTER * time) + phase)
    side = 2 * int(rng.integers(9, 15))  # even, as the colour planes have half the pixels
    top, left = 2 * rng.integers(0, (SIZE - side) // 2 + 1, size=2)
    luma[:, top : top + side, left : left + side] = LUMA
    luma += rng.normal(0, rng.uniform(1, 4), luma.shape)
    chroma = np.full((2, SIZE // 2, SIZE // 2), 128.0)
    half = np.arange(side // 2) >= side / 4  # of the patch's columns, those to the right
    for plane, *strengths in zip(chroma, *(HUES[hue] for hue in hues), strict=True):
        strength = CHROMA * np.where(half, strengths[1], strengths[0]) * rng.uniform(0.8, 1.2)
        plane[top // 2 : (top + side) // 2, left // 2 : (left + side) // 2] += strength
    colour = np.broadcast_to(chroma.reshape(1, -1, SIZE), (frames, SIZE // 2, SIZE))
    return np.clip(np.rint(np.concatenate([luma, colour], axis=1)), 16, 235).astype(np.uint8)


def mono(vowel: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A sung vowel, (N,) float32: harmonics of a random pitch under the vowel's formants, at a random loudness.

    All vowels have the same power; pitch, phases and the slow swell of loudness are random.
    """
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = rng.uniform(110, 260)
    number = np.arange(1, int(4000 / pitch))
    frequency = pitch * number
    envelope = sum(1 / (1 + ((frequency - formant) / FORMANT_WIDTH) ** 2) for formant in FORMANTS[vowel])
    phase = rng.uniform(0, 2 * np.pi, len(number))
    glide = 1 + 0.02 * np.sin(2 * np.pi * (rng.uniform(3, 6) * time + rng.uniform()))  # vibrato
    cycles = np.cumsum(pitch * glide) / SAMPLE_RATE
    tone = (envelope[:, None] * np.sin(2 * np.pi * number[:, None] * cycles + phase[:, None])).sum(axis=0)
    swell = 1 + 0.4 * np.sin(2 * np.pi * (rng.uniform(0.5, 2) * time + rng.uniform()))
    tone *= swell / np.sqrt(np.mean((tone * swell) ** 2))
    loudness = 0.1 * 10 ** (rng.uniform(-10, 4) / 20)  # root mean square of full scale
    return (loudness * tone + rng.normal(0, 0.003, len(time))).clip(-1, 1).astype(np.float32)


def _write_video(job: tuple) -> None:
    path, task, label, (shortest, longest), seed = job
    rng = np.random.default_rng(seed)
    shots = TASKS[task].shots(label, round(rng.uniform(shortest, longest) * FPS), rng)
    # nothing is common to two shots, least of all the stripes' phase: from one to the next it would tell the direction
    pictures = np.concatenate([picture_sequence(shot.hues, shot.direction, shot.frames, rng) for shot in shots])
    sound = np.concatenate([mono(shot.vowel, shot.frames / FPS, rng) for shot in shots])
    with av.open(str(path), "w") as container:
        # a low quantiser: coding artefacts in a picture must not show the direction in which its neighbours move
        # no mbtree: with pictures this small it makes x264 write different bytes from run to run
        options = {"crf": "10", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(video.encode())
        for begin in range(0, len(sound), 1024):
            frame = av.AudioFrame.from_ndarray(sound[None, begin : begin + 1024], format="fltp", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = begin
            container.mux(audio.encode(frame))
        container.mux(audio.encode())


def main(settings: SynthSettings | None = None) -> None:
    settings = settings or parse_command(SynthSettings, prog="python -m preprocess.synth", doc=__doc__)
    synthesise(settings)
    print(
        f"{settings.out}: {settings.train} training and {settings.test} test videos, labels.csv, ceilings.json; next:\n"
        f"python -m preprocess.extract {settings.out} out.h5 --labels {settings.out / 'labels.csv'} --short-side {SIZE}"
    )


if __name__ == "__main__":
    run_command(main)
