"""What is known of a video's windows before anything is chosen: features, classes, loudness, shots, events."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from preprocess.store import Store
from preprocess.store.format import MEL_RATE
from preprocess.store.index import Video
from tasks.events.detector import Detector
from tasks.events.event import Event
from tasks.events.labels import BACKGROUND
from tasks.model import Model
from tasks.summary.shots import shots

BLOCK = 60  # seconds of log-mel in memory at a time


@dataclass(frozen=True)
class Evidence:
    """N windows of one video, in the order of time. K is the number of classes, D of features."""

    seconds: float
    times: np.ndarray  # (N, 2) begin and end of each window in seconds
    features: np.ndarray  # (N, D) of one stream: its tower's output, the mean over the window
    classes: list[str]
    answer: np.ndarray  # (N, K) probabilities
    loudness: np.ndarray | None  # (N,) natural log of the mean mel power; None without sound
    shots: np.ndarray  # (S + 1,) seconds
    events: Sequence[Event] | None  # None without a detector

    def __len__(self) -> int:
        return len(self.times)

    @property
    def middles(self) -> np.ndarray:
        """(N,) seconds."""
        return self.times.mean(axis=1)

    @cached_property
    def unlike(self) -> np.ndarray:
        """(N, D) the features' directions from the video's mean, of unit length; zeros where there is none."""
        apart = self.features.astype(np.float64) - self.features.mean(axis=0, dtype=np.float64)
        norms = np.linalg.norm(apart, axis=1, keepdims=True)
        return np.where(norms > 1e-6, apart / np.maximum(norms, 1e-6), 0.0)

    @property
    def happening(self) -> np.ndarray | None:
        """(N,) how sure it is that something happens, by the classes; None if none of them is the background."""
        if BACKGROUND not in self.classes:
            return None
        return self.answer.sum(axis=1) - self.answer[:, self.classes.index(BACKGROUND)]

    def event_scores(self, label: str | None = None) -> np.ndarray | None:
        """(N,) the highest score of an event (with that label) at each window's middle; None without a detector."""
        if self.events is None:
            return None
        scores = np.zeros(len(self))
        for event in self.events:
            if label in (None, event.label):
                inside = (self.middles >= event.start) & (self.middles < event.end)
                scores[inside] = np.maximum(scores[inside], event.score)
        return scores


def gather(
    model: Model,
    store: Store,
    video: Video,
    *,
    streams: Sequence[str],
    hop: float,
    detector: Detector | None = None,
    keep: bool = False,
    bar: str | None = None,
) -> Evidence:
    """The evidence of one video of a store from these streams; moments are compared by the first one that it has.

    Raises UserError if the video has none of the streams.
    """
    model.check_streams(video, streams)
    first = next(name for name in streams if video.streams[name])
    times, features, answers = [], [], []
    for windows in model.windows(store, video=video.path, hop=hop, keep=keep, bar=bar):
        times.append(windows.times)
        features.append(windows.towers[first].float().mean(dim=1))
        answers.append(model.fuse(windows, streams).answer)
    joined = [torch.cat(parts).cpu().numpy() for parts in (times, features, answers)]
    events = None
    if detector is not None:
        (sequence,) = detector.sequences(store, video=video.path, keep=keep, bar=bar)
        known = [name for name in streams if name in detector.streams]
        events = detector.events(sequence, streams=known)
    heard = "audio" in streams and video.streams["audio"]
    return Evidence(
        seconds=video.seconds,
        times=joined[0],
        features=joined[1],
        classes=model.classes,
        answer=joined[2],
        loudness=loudness(store, video, joined[0]) if heard else None,
        shots=shots(store, video),
        events=events,
    )


def loudness(store: Store, video: Video, times: np.ndarray) -> np.ndarray:
    """(N, 2) seconds → (N,) the natural log of the mean power of the mel bands."""
    total, block = round(video.seconds * MEL_RATE), BLOCK * MEL_RATE
    powers = [
        np.exp(store.mel(video, begin, min(total, begin + block)).astype(np.float64)).mean(axis=1)
        for begin in range(0, total, block)
    ]
    power = np.concatenate([[0.0], np.concatenate(powers).cumsum()])
    begin, end = (times * MEL_RATE).round().astype(int).clip(0, len(power) - 1).T
    return np.log((power[end] - power[begin]) / np.maximum(1, end - begin) + 1e-8)
