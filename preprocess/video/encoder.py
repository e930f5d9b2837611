"""Encoding of decoded pictures and sound for the store: JPEGs, flow in 8 bits, log-mel; incremental."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from preprocess.common.stopwatch import Stopwatch
from preprocess.flow import tvl1
from preprocess.store.codec import encode_flow, encode_rgb, quantise_flow
from preprocess.store.format import FLOW_BOUND
from preprocess.video.decoded import Frame, Samples
from preprocess.video.log_mel import SAMPLE_RATE, LogMel
from preprocess.video.settings import PieceSettings
from preprocess.video.velocity import Velocities

FLOW_CHUNK = 32  # frames whose flow is solved together: bounds the memory of a long video
SOUND_CHUNK = SAMPLE_RATE  # samples that become log-mel together: one packet's alone cost ten times as much


class Sink(Protocol):
    """Takes encoded data, in the order of time."""

    def add(self, values: np.ndarray) -> None: ...


class VideoEncoder:
    """Sends each frame's JPEG to `rgb`, each step's velocity as one to `flow`, rows of log-mel, (T, M), to `mel`."""

    def __init__(
        self,
        settings: PieceSettings,
        *,
        rgb: Sink,
        flow: Sink,
        mel: Sink,
        watch: Stopwatch,
        flow_chunk: int = FLOW_CHUNK,
        sound_chunk: int = SOUND_CHUNK,
    ) -> None:
        """
        Args:
            flow_chunk: frames whose flow is solved together: many need less time, a few give it sooner.
            sound_chunk: samples that become log-mel together, likewise.
        """
        self.clipped = self.values = 0  # flow values beyond the bound, and all
        self._solver = {"engine": settings.flow_engine, "preset": settings.flow_preset}
        self._rgb, self._flow, self._mel = rgb, flow, mel
        self._watch = watch
        self._log_mel = LogMel(bands=settings.mel_bands)
        self._sound: list[np.ndarray] = []  # samples that wait to be a chunk
        self._sound_chunk = sound_chunk
        self._fps = settings.fps
        self._frames = 0
        solver = {"solve": self._solve, "emit": self._add_flow, "chunk": flow_chunk}
        self._velocities = Velocities(fps=settings.fps, **solver)

    @property
    def flow_ahead(self) -> int:
        """The number of steps whose flow `solve_flow` would give."""
        return self._velocities.ahead

    def push(self, item: Frame | Samples) -> None:
        """Take the next picture or the next samples."""
        if isinstance(item, Samples):
            self._sound.append(item.samples)
            if sum(map(len, self._sound)) >= self._sound_chunk:
                self._add_mel()
            return
        with self._watch.stage("encode"):
            jpeg = encode_rgb(item.rgb)
        for _ in range(item.count):
            self._rgb.add(jpeg)
        seconds = self._frames / self._fps if item.seconds is None else item.seconds
        self._frames += item.count
        self._velocities.push(_grey(item.rgb), steps=item.count, seconds=seconds, filmed=item.filmed)

    def finish(self) -> None:
        """Encode the rest."""
        self._velocities.finish()
        self._add_mel()
        self._mel.add(self._log_mel.finish())

    def solve_flow(self) -> None:
        """Solve the flow that is decided: to the newest picture, unless that may repeat the one before it."""
        self._velocities.solve()

    def cut(self) -> None:
        """Let no flow lead from the pictures so far to the next one."""
        self._velocities.finish()

    def _solve(self, greys: np.ndarray) -> np.ndarray:
        with self._watch.stage("flow"):
            return tvl1(greys, **self._solver)

    def _add_mel(self) -> None:
        if self._sound:
            with self._watch.stage("mel"):
                self._mel.add(self._log_mel.push(np.concatenate(self._sound)))
            self._sound.clear()

    def _add_flow(self, flows: np.ndarray, steps: Sequence[int]) -> None:
        with self._watch.stage("encode"):
            if max(flows.max(), -flows.min()) > FLOW_BOUND:
                beyond = np.count_nonzero(np.abs(flows) > FLOW_BOUND, axis=(1, 2, 3))
                self.clipped += int(beyond @ np.array(steps))
            self.values += sum(steps) * flows[0].size
            for code, count in zip(quantise_flow(flows), steps, strict=True):
                jpeg = encode_flow(code)
                for _ in range(count):
                    self._flow.add(jpeg)


def _grey(rgb: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
