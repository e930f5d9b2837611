"""Decoded audio of any format, with gaps in its timestamps, as one continuous mono signal."""

from collections import deque
from collections.abc import Iterator
from functools import reduce
from math import exp, isfinite

import av
import numpy as np

from preprocess.video.log_mel import SAMPLE_RATE

JITTER = 0.02  # s; smaller deviations of timestamps are rounding
LASTS = 1.0  # s; a larger deviation that comes back within this time is jitter too, else a gap or an overlap
FEW = 0.2  # of the packets within this time that may deviate otherwise
BLOCK = 8192  # samples; short packets are gathered before they are resampled
CANCELLED = 0.05  # of the power that independent channels would leave in their mean
MEMORY = 1.0  # s; the past over which channels are compared
FAINT = 0.01  # of full scale; channels that are weaker than this over MEMORY are not compared: codecs leave such noise


class MonoTrack:
    """Mixes decoded audio down to mono, makes it contiguous and resamples it to SAMPLE_RATE.

    Gaps between timestamps become silence, overlaps are cut, so that sample n sounds n / SAMPLE_RATE seconds
    after `start`. Output are samples, (N,) float32 in -1…1, and lengths of long silences.
    """

    def __init__(self, *, contiguous: bool = False) -> None:
        """`contiguous` is True for a container whose timestamps are computed from the number of bytes (AVI)."""
        self.start: float | None = None  # time of the first sample, in seconds on the file's clock
        self.notes: set[str] = set()
        self._contiguous = contiguous
        self._time = 0.0  # expected time of the next sample
        self._waiting: deque[tuple[float | None, np.ndarray]] = deque()  # packets whose timestamps are in doubt
        self._is_timed = True  # False if timestamps are useless
        self._is_loose = False  # True if timestamps have strayed and come back
        self._floats: av.AudioResampler | None = None
        self._resampler: av.AudioResampler | None = None
        self._format: tuple | None = None
        self._mixer = _Mixer()
        self._gathered: list[np.ndarray] = []

    def push(self, frame: av.AudioFrame) -> Iterator[np.ndarray | int]:
        """Take one decoded frame; yield what is resampled by now."""
        form = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if form != self._format:  # also in the middle of a stream: broadcasts switch from stereo to 5.1
            yield from self.finish()
            self._format = form
            self._mixer = _Mixer()
            # packed: with more than seven planar channels PyAV assumes too many, and reads beyond them
            self._floats = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)
        assert self._floats is not None
        time = frame.time
        frame.pts = None  # timestamps are handled here
        packed = [out.to_ndarray().reshape(-1, frame.layout.nb_channels) for out in self._floats.resample(frame)]
        mono = [self._mixer.mix(samples, rate=frame.sample_rate) for samples in packed]
        if self._mixer.has_cancelled:
            self.notes.add("the sound's channels cancel each other: one of them is used")
        if self.start is None:
            self.start = self._time = time or 0.0
        self._waiting.append((time, np.concatenate([np.zeros(0, np.float32), *mono])))
        yield from self._settle(frame.sample_rate, last=False)

    def finish(self) -> Iterator[np.ndarray | int]:
        """Yield the rest."""
        if self._resampler is not None and self._format is not None:
            yield from self._settle(self._format[-1], last=True)
            yield from self._resample(self._format[-1])
            for out in self._resampler.resample(None):
                yield out.to_ndarray()[0]
            self._resampler = None

    def _settle(self, rate: int, *, last: bool) -> Iterator[np.ndarray | int]:
        """Append the waiting packets, as far as their timestamps are clear."""
        while self._waiting:
            time, samples = self._waiting[0]
            stray = 0.0 if time is None or not self._is_timed else time - self._time
            if abs(stray) > JITTER:
                is_short = sum(len(packet) for _, packet in self._waiting) < LASTS * rate
                if is_short and not last:
                    return
                stray = 0.0 if is_short and self._is_loose else self._lasting(stray, rate)
            if stray > JITTER:
                yield from self._push_silence(round(stray * rate), rate)
            elif stray < -JITTER:
                samples = samples[round(-stray * rate) :]
            self._waiting.popleft()
            self._time += len(samples) / rate
            self._gathered.append(samples)
            if sum(map(len, self._gathered)) >= BLOCK:
                yield from self._resample(rate)

    def _lasting(self, stray: float, rate: int) -> float:
        """The seconds by which all of the waiting packets, not only the first, deviate from their expected times."""
        expected = self._time
        strays = []
        for time, samples in self._waiting:
            if time is not None:
                strays.append(time - expected)
            expected += len(samples) / rate
        length = expected - self._time - len(self._waiting[-1][1]) / rate
        advance = strays[-1] + length - strays[0]  # of the timestamps, while the samples advance by `length`
        useless = advance < length / 2 or (self._contiguous and advance > 2 * length)
        if useless and len(strays) > 7:
            self._is_timed = False
            self.notes.add("the sound's timestamps run at another speed than its samples: they are ignored")
            return 0.0
        low, common, high = np.quantile(strays, (FEW, 0.5, 1 - FEW))
        if low > JITTER or high < -JITTER:
            return min(stray, float(common), key=abs) if stray * common > 0 else 0.0
        self._is_loose = True
        return 0.0

    def _push_silence(self, count: int, rate: int) -> Iterator[np.ndarray | int]:
        """Append `count` samples of silence.

        After a second of silence the resampler has forgotten all else, and further whole seconds are zeros: they are
        not made, since they may be hours.
        """
        self._time += count / rate
        lead = min(count, rate)
        seconds, rest = divmod(count - lead, rate)
        self._gathered.append(np.zeros(lead, np.float32))
        yield from self._resample(rate)
        if seconds:
            yield seconds * SAMPLE_RATE
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


class _Mixer:
    """The mean of the channels; where they cancel each other, the loudest channel, as a person would hear them."""

    def __init__(self) -> None:
        self.has_cancelled = False
        self._total = 0.0  # recent power of all channels
        self._power = 0.0  # and of their mean
        self._channel: int | None = None  # the one that is used while they cancel each other

    def mix(self, samples: np.ndarray, *, rate: int) -> np.ndarray:
        """(N, C) → (N,).

        The mean, as in librosa: FFmpeg's weights make a mono signal on two channels 3 dB louder than on one. Float
        tracks can hold anything; one NaN would spread into whole rows of log-mel.
        """
        total = float(np.vdot(samples, samples))
        channels = samples.shape[1]
        mono = (
            reduce(np.add, samples.T) / channels if channels > 1 else samples[:, 0]
        )  # `mean` is slow along short axes
        mono = (mono if isfinite(total) else np.nan_to_num(mono)).clip(-1, 1)
        if channels == 1 or not len(samples):
            return mono
        keep = exp(-len(samples) / (MEMORY * rate))
        self._total = (total if isfinite(total) else 0.0) + keep * self._total
        self._power = float(mono @ mono) + keep * self._power
        independent = self._total / channels**2
        if self._power >= CANCELLED * independent or independent < FAINT**2 * MEMORY * rate:
            self._channel = None
            return mono
        if self._channel is None:  # the same one as long as possible: two channels may be equally loud
            self._channel = int(np.nan_to_num(np.abs(samples)).sum(axis=0).argmax())
        self.has_cancelled = True
        return np.nan_to_num(samples[:, self._channel]).clip(-1, 1)
