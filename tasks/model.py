"""A trained model and the one call behind every use of it: windows of videos in, features and answers out.

model = load("runs/rgb+flow+audio")
for windows in model.windows("new.mp4", length=2.0, hop=0.5):
    windows.times, windows.features["flow"], windows.answer
model.predict("new.mp4").top(5)
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fusion.answers import Answers
from fusion.device import choose_device
from fusion.model import FusionModel
from fusion.training.features import kept_features, kept_streams
from fusion.training.frozen import frozen_streams
from fusion.training.run import load_model
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import local_path
from preprocess.store import Store
from preprocess.store.index import Video
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.loader import ViewBatches, make_loader
from streams.registry import parse_streams, subset_name
from tasks.exported.network import ExportedNetwork, is_exported
from tasks.hub.fetch import HUB, fetch, is_on_hub
from tasks.hub.folder import weights_in
from tasks.hub.saving import Saving
from tasks.live_windows import live_batches
from tasks.newest import newest
from tasks.predicted import predicted
from tasks.prediction import Prediction
from tasks.sources import Source, files_of, is_live, open_source
from tasks.windows import Windows, encode, fuse

READERS = 2  # worker processes that read clips
WEIGHTS = ("best", "last")


def load(run: str | os.PathLike, *, weights: str = "best", device: str = "auto") -> "Model":
    """A run's folder, or a single file of weights, as a model on its device.

    Args:
        run: a folder written by train.py, or a .safetensors file from it, which is enough by itself; a folder written
            by tasks.export, which onnxruntime runs on the CPU; or one by tasks.publish, also as hf:OWNER/NAME on the
            Hugging Face hub, with @REVISION if that matters.
        weights: of a folder, "best" (by validation) or "last".
        device: "cpu", "cuda" …; "auto" is "cuda" where there is one.

    Raises:
        UserError: there is no such run or device, or the run lacks these weights.
    """
    path = fetch(os.fspath(run)) if is_on_hub(os.fspath(run)) else local_path(run)
    path = weights_in(path)
    if is_exported(path):
        network = ExportedNetwork(path, device=device)
        about, place, streams = network.about, torch.device("cpu"), network.streams
    else:
        if weights not in WEIGHTS:
            raise UserError(f"unknown weights '{weights}': known are {', '.join(WEIGHTS)}")
        if path.suffix != ".safetensors":
            if not (path / "settings.json").is_file():
                raise UserError(f"{path} is no run of train.py: it has no settings.json")
            path = path / f"{weights}.safetensors"
        network, about = load_model(path)
        streams, place = tuple(network.encoders), choose_device(device)
        for name in frozen_streams(about.settings.recipe.freeze, streams):
            network.encoders[name].freeze()
        network.to(place).eval()
    settings, parameters = about.settings, about.parameters
    return Model(path, network, streams, about.classes, settings, parameters, about.version, place)


@dataclass(frozen=True)
class Model(Saving):
    """A trained model on its device."""

    path: Path  # path of its weights
    network: FusionModel | ExportedNetwork
    streams: tuple[str, ...]
    classes: list[str]
    settings: TrainSettings  # its training settings
    parameters: dict  # parameters of its training store
    release: str  # the release that trained it
    device: torch.device

    @property
    def fps(self) -> float:
        """The frame rate of its training store."""
        return self.parameters["fps"]

    @property
    def clip(self) -> ClipSettings:
        """The shape of its training clips."""
        return self.settings.recipe.clip

    @property
    def whole_strides(self) -> list[str]:
        """The streams whose clips begin at whole strides, since a frozen tower's features can be kept."""
        if isinstance(self.network, ExportedNetwork):
            return self.network.whole_strides
        return kept_streams(self.network, self.settings.recipe)

    @property
    def seconds(self) -> float:
        """The length of a training clip, its segments one after the other."""
        return self.clip.length / self.fps

    def windows(
        self,
        source: Source,
        *,
        length: float | None = None,
        hop: float | None = None,
        video: str | None = None,
        batch: int = 32,
        gradients: bool = False,
        keep: bool = False,
        bar: str | None = None,
        newest_only: bool = False,
    ) -> Iterator[Windows]:
        """Windows of one video after the other, in the order of time; memory does not grow with the videos' length.

        Args:
            source: a video file, a folder of them, a store (its path, or a Store), or an iterable of decoded Frame,
                Samples and Absent, whose windows are given as soon as they are complete.
            length: seconds of a window; sound extends as much further as in training. The default is the length of the
                training clips. A clip of one segment shows all of the window, and has more or fewer pictures than in
                training; several segments are as in training, in the middles of as many equal parts of the window.
            hop: seconds from one window to the next; the default is the length. If no window ends with the video, one
                more does; a video shorter than a window has one.
            video: of a store, only this one: its path, or a part of it that no other has.
            batch: windows at a time.
            gradients: allow gradients with respect to `Windows.inputs`; of stored videos, `moments` says when they are.
            keep: keep what frozen towers make of a store beside it; a later call then reads it.
            bar: name of a progress bar, on a terminal.
            newest_only: of a live source, make windows in a thread of their own while the model is busy, and pass over
                all that have waited but the newest.

        Raises:
            UserError: a source that cannot be read or does not fit the model; a length or hop that is not positive.
        """
        clip, window, frames = self._window(length, hop)
        at_least(1, batch=batch)
        if gradients and isinstance(self.network, ExportedNetwork):
            raise UserError(f"{self.path} is an exported model, which has no gradients: use the run")
        if is_live(source):
            shape = {"parameters": self.parameters, "streams": self.streams, "classes": self.classes}
            shape |= {"window": window, "whole_strides": self.whole_strides}
            batches = live_batches(source, clip=clip, hop=frames, **shape)
            for live in newest(batches) if newest_only else batches:
                named = [("live", live.seconds)]
                batch = live.batch.to(self.device)
                found = encode(self.network, batch, videos=named, fps=self.fps, gradients=gradients)
                yield replace(found, made=(live.complete, live.ready))
            return
        for part in files_of(source):
            with open_source(part, video=video, parameters=self.parameters, bar=bar) as opened:
                shape = {"clip": clip, "hop": frames, "window": window, "batch": batch, "gradients": gradients}
                kept = keep or (not opened.lasts and frames < window)  # windows that overlap share pictures
                yield from self.clips(opened.store, opened.videos, names=opened.names, keep=kept, bar=bar, **shape)

    def of_videos(
        self, store: Store, videos: Sequence[Video], *, length: float | None, hop: float | None, keep: bool = False
    ) -> Iterator[Windows]:
        """As `windows`, of these videos of a store, in one pass."""
        clip, window, frames = self._window(length, hop)
        names = [video.path for video in videos]
        yield from self.clips(store, videos, names=names, clip=clip, hop=frames, window=window, keep=keep)

    def predict(
        self,
        source: Source,
        *,
        views: int = 5,
        video: str | None = None,
        streams: str | Sequence[str] | None = None,
        bar: str | None = None,
    ) -> Prediction:
        """The answer for one video: the mean over `views` windows of the trained length, spread evenly over it.

        For a live source, the mean over all windows until it ends. Only `streams` are used, if they are given:
        "rgb,audio", or their names. `bar` names a progress bar, on a terminal.

        Raises:
            UserError: as windows; a source of several videos; a video that has none of the streams; a stream that the
                model does not have; a model without a classifier.
        """
        at_least(1, views=views)
        self.check_classifier()
        chosen = self.choose(streams)
        shape = {"fuse": self.fuse, "classes": self.classes, "length": self.seconds}
        if is_live(source):
            found = list(self.windows(source))
            if not found:
                raise UserError("the source ended before its first picture: there is nothing to answer")
            return predicted(found, chosen, seconds=float(found[-1].times[-1, 1]), **shape)
        if len(files_of(source)) > 1:
            raise UserError(f"{source} holds several videos: ask about one at a time, or use windows()")
        with open_source(files_of(source)[0], video=video, parameters=self.parameters, bar=bar) as opened:
            if len(opened.videos) != 1:
                raise UserError(f"{source} holds {len(opened.videos)} videos: name one with video=…, or use windows()")
            one = opened.videos[0]
            self.check_streams(one, chosen)
            found = list(self.clips(opened.store, opened.videos, views=views, names=opened.names, bar=bar))
            return predicted(found, chosen, seconds=one.seconds, facts=one, **shape)

    def fuse(self, windows: Windows, subset: str | Sequence[str]) -> Windows:
        """The same windows as if only the streams of `subset` were present: "rgb,audio", or their names.

        Raises:
            UserError: a stream that the model does not have.
        """
        return fuse(self.network, windows, self.choose(subset))

    def choose(self, streams: str | Sequence[str] | None) -> tuple[str, ...]:
        """The names of the streams that are meant by "rgb,audio", by their names, or, all of them, by None.

        Raises:
            UserError: a stream that the model does not have.
        """
        if streams is None:
            return self.streams
        names = parse_streams(streams if isinstance(streams, str) else ",".join(streams), None)
        unknown = [name for name in names if name not in self.streams]
        if unknown:
            raise UserError(f"{self.path} was not trained on {unknown[0]}: its streams are {', '.join(self.streams)}")
        return names

    def spacing(self, *, length: float | None = None, hop: float | None = None) -> tuple[float, float]:
        """Seconds of a window, and from one to the next, as `windows` makes them of what is asked for: whole frames.

        Raises:
            UserError: a length or hop that is not positive.
        """
        _, window, frames = self._window(length, hop)
        return window / self.fps, frames / self.fps

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *, device: str = "auto", **settings: object) -> "Model":
        """A folder, or OWNER/NAME on the hub; `settings` are snapshot_download's: revision, cache_dir, token …"""
        return load(name if local_path(name).exists() else fetch(f"{HUB}{name}", **settings), device=device)

    def check_classifier(self) -> None:
        """Raises UserError if the model gives features alone."""
        if not self.classes:
            raise UserError(f"{self.path} has no classifier, it was trained with --pretrain: it gives features alone")

    def check_streams(self, video: Video, streams: Sequence[str]) -> None:
        """Raises UserError if a video has none of these streams."""
        if not any(video.streams[name] for name in streams):
            why = ", ".join(f"{name}: {video.why[name]}" for name in streams)
            raise UserError(f"{video.path} has no stream that {self.path} can use ({why})")

    def clips(
        self,
        store: Store,
        videos: Sequence[Video],
        *,
        views: int = 1,
        hop: int | None = None,
        window: int | None = None,
        clip: ClipSettings | None = None,
        names: Sequence[str] | None = None,
        batch: int = 32,
        gradients: bool = False,
        bar: str | None = None,
        keep: bool = False,
    ) -> Iterator[Windows]:
        """Windows of a store's videos: `views` a video, or one of `window` frames each `hop` ones.

        Features of frozen image towers that lie beside the store are used; with `keep` they are made and kept there.
        `bar` names a progress bar.
        """
        recipe = self.settings.recipe
        shape = {"streams": self.streams, "classes": self.classes, "clip": clip or self.clip}
        shape |= {"whole_strides": self.whole_strides}
        dataset = ClipDataset(store, videos, views=views, hop=hop, window=window, **shape)
        if not (gradients or isinstance(self.network, ExportedNetwork)):
            make = keep and os.access(store.path.parent, os.W_OK)
            kept, _ = kept_features(self.network, store, recipe, device=self.device, workers=READERS, make=make)
            dataset.streams.update(kept)
        batches = ViewBatches(dataset, batch=batch)
        workers = READERS if len(batches) > 1 else 0
        loader = make_loader(dataset, batches, workers=workers, pin=self.device.type == "cuda")
        names = store.columns["path"] if names is None else names
        for loaded in tqdm(loader, desc=bar, unit="batch", leave=False, disable=None if bar else True):
            named = [(names[row], videos[row].seconds) for row in loaded.videos.tolist()]
            found = encode(self.network, loaded.to(self.device), videos=named, fps=store.fps, gradients=gradients)
            yield replace(found, moments=self._moments(dataset, loaded)) if gradients else found

    def answers(
        self,
        store: Store,
        videos: Sequence[Video],
        subsets: Sequence[tuple[str, ...]],
        *,
        views: int,
        batch: int = 32,
        bar: str | None = None,
    ) -> Answers:
        """The mean over `views` windows of each video, for each of the subsets: each window is encoded once."""
        answers = Answers(subsets, videos=len(videos), classes=len(self.classes))
        names = [video.path for video in videos]
        for windows in self.clips(store, videos, views=views, names=names, batch=batch, bar=bar, keep=True):
            for subset in subsets:
                fused = fuse(self.network, windows, subset)
                answers.add(subset_name(subset), windows.rows, fused.answer, fused.answered)
        return answers

    def _window(self, length: float | None, hop: float | None) -> tuple[ClipSettings, int, int]:
        """The clip settings for `length` seconds, the frames of a window, and those from one window to the next."""
        fps, clip = self.fps, self.clip
        for name, value in (("length", length), ("hop", hop)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} is a number of seconds above zero, not {value}")
        if length is not None and clip.segments == 1:
            frames = max(1, round(length * fps / clip.stride))
            around = clip.audio_seconds - clip.span / fps  # seconds that sound extends beyond the pictures
            sound = max(0.01, frames * clip.stride / fps + around)
            clip = replace(clip.with_frames(frames), audio_seconds=sound)
        spread = length is not None and clip.segments > 1
        window = max(clip.span, round(length * fps)) if spread else clip.length
        return clip, window, window if hop is None else max(1, round(hop * fps))

    def _moments(self, dataset: ClipDataset, batch: Batch) -> dict[str, Tensor]:
        rows = zip(batch.videos.tolist(), batch.starts.tolist(), strict=True)
        times = [dataset.times(dataset.videos[row], tuple(starts)) for row, starts in rows]
        return {
            name: torch.from_numpy(np.stack([part[name] for part in times])).to(self.device) for name in self.streams
        }
