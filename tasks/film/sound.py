"""The sound of a file at its own quality, stretch by stretch, on the clock of its pictures."""

from collections import deque
from collections.abc import Iterator
from functools import partial

import av
import numpy as np

from preprocess.video.container import AV_ERRORS, open_media
from preprocess.video.joining import JoinedPackets, longest_hole
from preprocess.video.limits import Limits
from preprocess.video.tracks import choose_tracks

RATE = 48_000  # Hz
JITTER = RATE // 20  # samples; smaller deviations of timestamps are rounding


class FilmSound:
    """Samples of a file's sound track from any sample on, asked for in the order of time. Close it."""

    def __init__(self, file: str, *, start: float) -> None:
        """`start` is the time of the first picture, in seconds on the file's clock: sample 0 sounds there."""
        limit = Limits().max_pixels
        again = partial(open_media, file, max_pixels=limit)
        self._container = again()
        tracks = choose_tracks(self._container, file, again=again, heartbeat=lambda: None)
        self.channels = 0  # 1 or 2; 0 without sound
        self._blocks: deque[tuple[int, np.ndarray]] = deque()  # the first sample of each, and (C, N) float32
        self._coming: Iterator[tuple[int, np.ndarray]] = iter(())
        if tracks.audio is not None:
            self.channels = min(2, tracks.audio.codec_context.layout.nb_channels or 1)
            ahead = longest_hole(self._container)
            streams = (tracks.video, tracks.audio)  # both: the clock has changed where both jump
            packets = JoinedPackets(self._container.demux(*streams), streams, ahead=ahead)
            self._coming = self._decode(packets, tracks.audio, start)

    def close(self) -> None:
        self._container.close()

    def take(self, begin: int, count: int) -> np.ndarray:
        """(C, count) float32 from sample `begin` on, silence where there is no sound."""
        found = np.zeros((self.channels, count), np.float32)
        while not self._blocks or self._blocks[-1][0] + self._blocks[-1][1].shape[1] < begin + count:
            block = next(self._coming, None)
            if block is None:
                break
            self._blocks.append(block)
            while self._blocks and self._blocks[0][0] + self._blocks[0][1].shape[1] <= begin:
                self._blocks.popleft()
        for first, samples in self._blocks:
            low, high = max(begin, first), min(begin + count, first + samples.shape[1])
            if low < high:
                found[:, low - begin : high - begin] = samples[:, low - first : high - first]
        return found

    def _decode(self, packets: JoinedPackets, audio: av.AudioStream, start: float) -> Iterator[tuple[int, np.ndarray]]:
        timed = self._container.format.name != "avi"  # there times are counted from bytes, and run on by themselves
        resampler, form, place = None, None, None
        for packet in packets:
            if packet.stream is not audio:
                continue
            try:
                frames = packet.decode()
            except AV_ERRORS:  # a damaged packet: the next one may be good
                continue
            for frame in frames:
                if form != (form := (frame.format.name, frame.layout.name, frame.sample_rate)):
                    layout = "mono" if self.channels == 1 else "stereo"
                    resampler = av.AudioResampler(format="fltp", layout=layout, rate=RATE)
                time = frame.time
                if time is not None and (place is None or (timed and abs(place - (time - start) * RATE) > JITTER)):
                    place = round((time - start) * RATE)
                frame.pts = None  # timestamps are handled here
                for out in resampler.resample(frame):
                    samples = out.to_ndarray()
                    place = round(-start * RATE) if place is None else place
                    yield place, samples
                    place += samples.shape[1]
