"""Decoded audio of any format, with the gaps that its timestamps show, as one unbroken mono signal."""

from collections.abc import Iterator

import av
import numpy as np

from preprocess.clock import LONGEST_GAP
from preprocess.mel import SAMPLE_RATE

JITTER = 0.02  # s; timestamps that stray less are rounding, more is a gap or an overlap
BLOCK = 8192  # samples; short packets are gathered before they are resampled


class Voice:
    """Mixes decoded audio down to mono, makes it contiguous and resamples it to SAMPLE_RATE.

    Gaps between timestamps become silence, overlaps are cut, so that sample n sounds n / SAMPLE_RATE seconds
    after `start`.
    """

    def __init__(self) -> None:
        self.start: float | None = None  # time of the first sample, in seconds on the file's clock
        self._time = 0.0  # when the next sample sounds if nothing is missing
        self._planes: av.AudioResampler | None = None
        self._resampler: av.AudioResampler | None = None
        self._format: tuple | None = None
        self._gathered: list[np.ndarray] = []

    def push(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        """Take one decoded frame; give out what is resampled by now, (N,) float32 in -1…1."""
        form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if form != self._format:  # also in the middle of a stream: broadcasts switch from stereo to 5.1
            yield from self.finish()
            self._format = form
            self._planes = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        assert self._planes is not None
        time, rate = frame.time, frame.sample_rate
        frame.pts = None  # the timestamps are dealt with here
        # the mean, as librosa mixes: FFmpeg's weights make a mono voice on two channels 3 dB louder than on one.
        # Float tracks can hold anything; one sample that is no number would spread into whole rows of log-mel
        mono = [np.nan_to_num(out.to_ndarray().mean(axis=0)).clip(-1, 1) for out in self._planes.resample(frame)]
        if self.start is None:
            self.start = self._time = time or 0.0
        stray = 0.0 if time is None else time - self._time
        if stray > LONGEST_GAP:
            return  # a broken timestamp, not a silence
        if stray > JITTER:
            mono.insert(0, np.zeros(round(stray * rate), np.float32))
        elif stray < -JITTER:
            mono = [np.concatenate(mono)[round(-stray * rate) :]]
        self._time += sum(map(len, mono)) / rate
        self._gathered += mono
        if sum(map(len, self._gathered)) >= BLOCK:
            yield from self._resample(rate)

    def finish(self) -> Iterator[np.ndarray]:
        """Give out what is left."""
        if self._resampler is not None and self._format is not None:
            yield from self._resample(self._format[-1])
            for out in self._resampler.resample(None):
                yield out.to_ndarray()[0]
            self._resampler = None

    def _resample(self, rate: int) -> Iterator[np.ndarray]:
        mono = np.concatenate(self._gathered) if self._gathered else np.zeros(0, np.float32)
        self._gathered = []
        assert self._resampler is not None
        # silence between timestamps can be minutes long; frames stay small all the same
        for begin in range(0, len(mono), 1 << 18):
            block = np.ascontiguousarray(mono[None, begin : begin + (1 << 18)])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate = rate
            for out in self._resampler.resample(frame):
                yield out.to_ndarray()[0]
