"""Encoding of decoded pictures and sound for the store: JPEGs, flow in 8 bits, log-mel; incremental."""

from typing import Protocol

import numpy as np

from preprocess.common.stopwatch import Stopwatch
from preprocess.flow import tvl1
from preprocess.store.codec import encode_flow, encode_rgb, quantise_flow
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO
from preprocess.video.decoded import Frame, Samples
from preprocess.video.log_mel import LogMel
from preprocess.video.settings import PieceSettings

FLOW_CHUNK = 32  # frames whose flow is solved together: bounds the memory of a long video


class Sink(Protocol):
    """Takes encoded data, in the order of time."""

    def add(self, values: np.ndarray) -> None: ...


class VideoEncoder:
    """Sends each frame's JPEG to `rgb`, each pair's to `flow`, rows of log-mel, (T, M), to `mel`."""

    def __init__(
        self,
        settings: PieceSettings,
        *,
        rgb: Sink,
        flow: Sink,
        mel: Sink,
        watch: Stopwatch,
        flow_chunk: int = FLOW_CHUNK,
    ) -> None:
        """`flow_chunk` frames' flow is solved together: many need less time, a few give it sooner."""
        self.clipped = self.values = 0  # flow values beyond the bound, and all
        self._solver = {"engine": settings.flow_engine, "preset": settings.flow_preset}
        self._rgb, self._flow, self._mel = rgb, flow, mel
        self._watch = watch
        self._log_mel = LogMel(bands=settings.mel_bands)
        self._flow_chunk = flow_chunk
        self._grey: list[np.ndarray] = []  # frames whose flow is not solved yet

    def push(self, item: Frame | Samples) -> None:
        """Take the next picture or the next samples."""
        if isinstance(item, Samples):
            with self._watch.stage("mel"):
                self._mel.add(self._log_mel.push(item.samples))
            return
        with self._watch.stage("encode"):
            jpeg = encode_rgb(item.rgb)
        for _ in range(item.count):
            self._rgb.add(jpeg)
        shown = min(item.count, self._flow_chunk)
        for _ in range(shown):
            self._push_flow(item.rgb)
        if item.count > shown:
            self._push_stillness(item.rgb, item.count - shown)

    def finish(self) -> None:
        """Encode the rest."""
        self.solve_flow()
        self._mel.add(self._log_mel.finish())

    def solve_flow(self) -> None:
        """Solve the flow of the waiting frames; the last stays, as the first of the next pair."""
        if len(self._grey) > 1:
            with self._watch.stage("flow"):
                flows = tvl1(np.stack(self._grey), **self._solver)
            with self._watch.stage("encode"):
                if max(flows.max(), -flows.min()) > FLOW_BOUND:
                    self.clipped += int(np.count_nonzero(np.abs(flows) > FLOW_BOUND))
                self.values += flows.size
                for code in quantise_flow(flows):
                    self._flow.add(encode_flow(code))
        del self._grey[:-1]

    def cut(self) -> None:
        """Let no flow lead from the pictures so far to the next one."""
        self.solve_flow()
        self._grey.clear()

    def _push_stillness(self, rgb: np.ndarray, count: int) -> None:
        """Pairs of a long still, which need no solver: its flow is zero."""
        self.solve_flow()
        zero = np.full((*rgb.shape[:2], 2), FLOW_ZERO, np.uint8)
        with self._watch.stage("encode"):
            code = encode_flow(zero)
        self.values += count * zero.size
        for _ in range(count):
            self._flow.add(code)

    def _push_flow(self, rgb: np.ndarray) -> None:
        import cv2

        self._grey.append(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        if len(self._grey) >= self._flow_chunk:
            self.solve_flow()
