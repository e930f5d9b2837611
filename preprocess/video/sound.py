"""Decoded audio of any format, with gaps in its timestamps, as one continuous mono signal."""

from collections.abc import Iterator

import av
import numpy as np

from preprocess.video.clock import LONGEST_GAP
from preprocess.video.log_mel import SAMPLE_RATE

JITTER = 0.02  # s; smaller deviations of timestamps are rounding, larger ones a gap or an overlap
BLOCK = 8192  # samples; short packets are gathered before they are resampled
SILENCE = 1 << 16  # samples; a long silence is output in blocks of this size


class MonoTrack:
    """Mixes decoded audio down to mono, makes it contiguous and resamples it to SAMPLE_RATE.

    Gaps between timestamps become silence, overlaps are cut, so that sample n sounds n / SAMPLE_RATE seconds
    after `start`.
    """

    def __init__(self) -> None:
        self.start: float | None = None  # time of the first sample, in seconds on the file's clock
        self._time = 0.0  # expected time of the next sample
        self._floats: av.AudioResampler | None = None
        self._resampler: av.AudioResampler | None = None
        self._format: tuple | None = None
        self._gathered: list[np.ndarray] = []

    def push(self, frame: av.AudioFrame) -> Iterator[np.ndarray]:
        """Take one decoded frame; yield what is resampled by now, (N,) float32 in -1…1."""
        form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if form != self._format:  # also in the middle of a stream: broadcasts switch from stereo to 5.1
            yield from self.finish()
            self._format = form
            # packed: with more than seven planar channels PyAV assumes too many, and reads beyond them
            self._floats = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        assert self._floats is not None
        time, rate = frame.time, frame.sample_rate
        frame.pts = None  # timestamps are handled here
        # the mean, as in librosa: FFmpeg's weights make a mono signal on two channels 3 dB louder than on one.
        # Float tracks can hold anything; one NaN would spread into whole rows of log-mel
        packed = [out.to_ndarray().reshape(-1, frame.layout.nb_channels) for out in self._floats.resample(frame)]
        mono = [np.nan_to_num(samples.mean(axis=1)).clip(-1, 1) for samples in packed]
        if self.start is None:
            self.start = self._time = time or 0.0
        stray = 0.0 if time is None else time - self._time
        if stray > LONGEST_GAP:
            return  # a broken timestamp, not a silence
        if stray > JITTER:
            yield from self._push_silence(round(stray * rate), rate)
        elif stray < -JITTER:
            mono = [np.concatenate(mono)[round(-stray * rate) :]]
        self._time += sum(map(len, mono)) / rate
        self._gathered += mono
        if sum(map(len, self._gathered)) >= BLOCK:
            yield from self._resample(rate)

    def finish(self) -> Iterator[np.ndarray]:
        """Yield the rest."""
        if self._resampler is not None and self._format is not None:
            yield from self._resample(self._format[-1])
            for out in self._resampler.resample(None):
                yield out.to_ndarray()[0]
            self._resampler = None

    def _push_silence(self, count: int, rate: int) -> Iterator[np.ndarray]:
        """Append `count` samples of silence, in blocks: ten minutes of it at 768 kHz would be 1.8 GB.

        After a second of silence the resampler has forgotten all else, and further whole seconds are zeros.
        """
        self._time += count / rate
        lead = min(count, rate)
        seconds, rest = divmod(count - lead, rate)
        self._gathered.append(np.zeros(lead, np.float32))
        yield from self._resample(rate)
        for begin in range(0, seconds * SAMPLE_RATE, SILENCE):
            yield np.zeros(min(seconds * SAMPLE_RATE - begin, SILENCE), np.float32)
        self._gathered.append(np.zeros(rest, np.float32))

    def _resample(self, rate: int) -> Iterator[np.ndarray]:
        """Resample and yield the gathered samples."""
        mono = np.concatenate([np.zeros(0, np.float32), *self._gathered])
        self._gathered = []
        if not len(mono):
            return
        assert self._resampler is not None
        frame = av.AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for out in self._resampler.resample(frame):
            yield out.to_ndarray()[0]
