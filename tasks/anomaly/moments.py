"""Moments of a video: what moves in each cell of the picture, what the moving cells look like, and what is heard."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from preprocess.store import Store
from preprocess.store.codec import dequantise_flow
from preprocess.store.format import MEL_RATE
from preprocess.store.index import Video
from preprocess.video.live import LiveVideo
from tasks.anomaly.look import Look

CELLS = 30  # along the shorter side of the picture
MOVING = 0.04  # shorter sides a second: slower cells are not looked at, so that what stands still is not unusual
HEARD = 0.5  # seconds of sound at a moment
BATCH = 8  # moments that are read together


@dataclass(frozen=True)
class Moments:
    """N moments one after the other; a stream that is not there is None."""

    times: np.ndarray  # (N,) seconds
    speed: Tensor | None  # (N, h, w) mean speed in each cell until the next moment, shorter sides a second
    moving: Tensor | None  # (N, h, w) the cells that were looked at: where something moves in the moment's picture
    looks: Tensor | None  # (M, D) what these look like
    sound: Tensor | None  # (N, 2 B) mean and deviation of each log-mel band


@dataclass(frozen=True)
class Reader:
    """Reads moments `step` frames apart, of some streams."""

    streams: Sequence[str]
    step: int
    device: torch.device
    look: Look | None  # for rgb

    def read(self, store: Store | LiveVideo, video: Video, first: int, frames: int) -> Moments:
        """The moments from frame `first` on, of the next `frames` frames."""
        at = np.arange(first, min(first + frames, video.frames), self.step)
        there = {name for name in self.streams if video.streams[name]}
        grid = _grid(video)
        speed = self._speed(store, video, at, grid) if video.streams["flow"] and there & {"rgb", "flow"} else None
        moving = looks = None
        if "rgb" in there:
            assert self.look is not None
            moving = torch.ones(len(at), *grid, dtype=torch.bool) if speed is None else speed[:, 0].cpu() > MOVING
            looks = self._looks(store, video, at, moving)
        sound = self._sound(store, video, at) if "audio" in there else None
        mean = speed.mean(dim=1) if speed is not None and "flow" in there else None
        return Moments(at / store.fps, mean, moving, looks, sound)

    def video(self, store: Store, video: Video) -> Iterator[Moments]:
        """All moments of a stored video, a few at a time."""
        for first in range(0, video.frames, BATCH * self.step):
            yield self.read(store, video, first, BATCH * self.step)

    def parts(self, video: Video) -> int:
        """How many parts these are."""
        return -(-video.frames // (BATCH * self.step))

    def _speed(self, store: Store | LiveVideo, video: Video, at: np.ndarray, grid: tuple[int, int]) -> Tensor:
        """(N, S, h, w) the speed in each cell at all frames of each moment"""
        steps = np.minimum(np.arange(at[0], at[-1] + self.step), video.frames - 2)  # the last picture has no flow
        flow = torch.from_numpy(dequantise_flow(store.frames(video, "flow", steps.tolist()))).float().to(self.device)
        speed = functional.adaptive_avg_pool2d(flow.square().sum(dim=1).sqrt(), grid)
        return speed.unflatten(0, (len(at), self.step)) * (store.fps / min(video.height, video.width))

    def _looks(self, store: Store | LiveVideo, video: Video, at: np.ndarray, moving: Tensor) -> Tensor:
        seen = [number for number in range(len(at)) if moving[number].any()]
        if not seen:
            return torch.zeros(0, 0, device=self.device)
        rgb = torch.from_numpy(store.frames(video, "rgb", at[seen].tolist())).to(self.device)
        rgb = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1
        together = len(rgb) if self.device.type == "cuda" else 1  # on a CPU less memory is faster
        with torch.inference_mode():
            found = torch.cat([self.look(part, moving.shape[1:]) for part in rgb.split(together)])
        return found[moving[seen].to(self.device)]

    def _sound(self, store: Store | LiveVideo, video: Video, at: np.ndarray) -> Tensor:
        rows = int(HEARD * MEL_RATE)
        begins = np.round(at / store.fps * MEL_RATE).astype(int)
        end = min(int(begins[-1]) + rows, max(int(begins[-1]) + 1, round(video.seconds * MEL_RATE)))
        mel = store.mel(video, int(begins[0]), end).astype(np.float32)
        mel = torch.from_numpy(mel).to(self.device)
        # towards the end of the track fewer rows are left, the last of which stand for more
        parts = [mel[min(begin, len(mel) - 1) :][:rows] for begin in (begins - begins[0]).tolist()]
        return torch.stack([torch.cat([part.mean(dim=0), part.std(dim=0, correction=0)]) for part in parts])


def _grid(video: Video) -> tuple[int, int]:
    """The cells in a column and in a row of the picture."""
    cell = min(video.height, video.width) / CELLS
    return max(1, round(video.height / cell)), max(1, round(video.width / cell))
