"""A trained detector: towers, a temporal head on them, and the classes of its events; and its folder."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store.format import release
from streams.registry import parse_streams
from tasks.events.decode import Points, suppress
from tasks.events.event import Event
from tasks.events.heads import HEADS, TemporalHead
from tasks.events.sequences import VideoFeatures, sequences
from tasks.events.settings import HeadRecipe
from tasks.events.training import collate, padded
from tasks.model import Model, load
from tasks.sources import Source

TOWERS, HEAD, KEY = "towers.safetensors", "head.safetensors", "tristream-events"


@dataclass(frozen=True)
class Detector:
    """Towers and a temporal head; both on the CPU or the towers on a GPU."""

    model: Model
    head: TemporalHead
    classes: list[str]
    recipe: HeadRecipe

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that the head has learned from."""
        return tuple(self.head.streams)

    @property
    def length(self) -> float:
        """The seconds of a window."""
        return self.recipe.length or self.model.seconds

    def sequences(
        self, source: Source, *, video: str | None = None, keep: bool = False, bar: str | None = None
    ) -> Iterator[VideoFeatures]:
        """The window features of each video of a source; arguments and errors are those of Model.windows."""
        shape = {"length": self.recipe.length, "hop": self.recipe.hop}
        yield from sequences(self.model, source, video=video, keep=keep, bar=bar, **shape)

    def events(
        self, video: VideoFeatures, *, streams: Sequence[str] | None = None, name: str | None = None
    ) -> list[Event]:
        """The events of one video from some of its streams, the surest first; `name` is what they call the video."""
        return found_events(points(self.head, video.of(streams or self.streams)), video, self.classes, name=name)


def points(head: TemporalHead, video: VideoFeatures) -> Points:
    """What a head says at the points of all its levels, from the streams that `video` has."""
    batch = collate([video], padded(len(video), head.strides[-1]), targets=[])
    with torch.no_grad():
        levels = head(batch.features, batch.present)
    spans, scores = [], []
    for level in levels:
        at = np.arange(level.logits.shape[1]) * level.stride + (level.stride - 1) / 2
        real = at < len(video)
        back, on = level.extents[0].double().numpy().T
        spans.append(video.seconds_at(np.stack([at - back, at + on], axis=1))[real])
        scores.append(level.logits[0].double().sigmoid().numpy()[real])
    return Points(np.concatenate(spans), np.concatenate(scores))


def found_events(said: Points, video: VideoFeatures, classes: Sequence[str], *, name: str | None = None) -> list[Event]:
    """The events that points stand for, the surest first."""
    return [
        Event(video=name or video.video, start=begin, end=end, label=classes[number], score=score)
        for begin, end, number, score in suppress(said, seconds=video.seconds)
    ]


def save_detector(folder: Path, detector: Detector) -> None:
    """Write a detector's folder: with its towers, so that it needs nothing else."""
    about = {
        "version": release(),
        "classes": detector.classes,
        "recipe": asdict(detector.recipe),
        "features": {name: part.mean.numel() for name, part in detector.head.streams.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / TOWERS, lambda part: shutil.copyfile(detector.model.path, part))
    tensors: Mapping[str, Tensor] = {name: value.contiguous() for name, value in detector.head.state_dict().items()}
    raw = save(tensors, metadata={KEY: json.dumps(about)})
    write_aside(folder / HEAD, lambda part: part.write_bytes(raw))


def load_detector(folder: Path, *, device: str = "auto") -> Detector:
    """The detector in a folder of `tasks.events train`.

    Raises UserError if there is none, or a file of it is damaged or of another version.
    """
    path = folder / HEAD
    if not path.is_file():
        raise UserError(f"{folder} holds no event detector: train one with python -m tasks.events train")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
        recipe = HeadRecipe(**about["recipe"])
        head = HEADS[recipe.head](
            about["features"], classes=len(about["classes"]), width=recipe.channels, dropout=recipe.drop
        )
        head.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): train it again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say what it holds ({error}): train it again with this version") from error
    return Detector(load(folder / TOWERS, device=device), head.eval(), about["classes"], recipe)


def streams_of(detector: Detector, text: str | None) -> tuple[str, ...]:
    """The streams that `text` names, or all.

    Raises UserError for one that the detector has not learned from.
    """
    names = parse_streams(text, None) if text else detector.streams
    for name in names:
        if name not in detector.streams:
            raise UserError(f"the detector was not trained on {name}: its streams are {', '.join(detector.streams)}")
    return names
