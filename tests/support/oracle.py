"""Videos that carry their own number and clock in pictures, motion and sound, and a reader of all three.

Every picture shows the video's number and its own as black and white blocks; below them a texture moves by a step whose
direction in x and y is drawn anew for every picture; the sound is two tones, of which the lower one is the video's
number and the higher one changes every 40 ms. So every frame, every flow field and every row of log-mel of a store says
itself where it belongs, whatever the program believes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import librosa
import numpy as np

from preprocess.store import Store
from preprocess.store.codec import dequantise_flow
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import Video
from preprocess.video.log_mel import SAMPLE_RATE
from tests.support.videos import sound, write_video

SIDE = 128  # pixels of a picture
STORED = 64  # pixels of a stored frame
BLOCK = 16  # pixels of a bit; eight in a row
BITS = 3 * BLOCK  # pixels: the rows of bits are above, the texture below
STEP = 3  # pixels that the texture moves from one picture to the next, in x and in y
SYMBOL = 0.04  # s of one tone
BANDS = 64
NUMBER_BANDS = range(6, 30, 2)  # the video's number, one of twelve
CLOCK_BANDS = range(34, 64, 2)  # the clock
APART = 6  # symbols that follow each other closely are different
TOLERANCE = 0.02  # s, of sound
CENTRES = librosa.mel_frequencies(n_mels=BANDS + 2, fmin=0.0, fmax=SAMPLE_RATE / 2)[1:-1]  # Hz


@dataclass(frozen=True)
class Recording:
    """What a video was made of; times are seconds on the file's own clock."""

    number: int  # below 12
    times: Sequence[float]  # of the pictures
    heard: tuple[float, float]  # from when to when there is sound
    name: str  # of the file
    rate: int = 48_000  # of the sound
    codec: str = "libx264"
    sound_codec: str = "aac"
    fps: Fraction | int = 25
    b_frames: int = 0

    def write(self, path: Path) -> None:
        """Make the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(
            path,
            [self._picture(k) for k in range(len(self.times))],
            times=None if self.b_frames else self.times,
            fps=self.fps,
            track=sound(self._samples(), start=self.heard[0], rate=self.rate, codec=self.sound_codec),
            codec=self.codec,
            b_frames=self.b_frames,
        )

    def places(self) -> np.ndarray:
        """(T, 2) int: where the texture is in each picture, in pixels, x then y."""
        steps = np.random.default_rng((1, self.number)).choice([-STEP, STEP], (len(self.times), 2))
        return np.cumsum(steps, axis=0)

    def symbols(self) -> list[int]:
        """The clock's tones, one after the other from time zero on."""
        rng = np.random.default_rng((2, self.number))
        found: list[int] = []
        while len(found) <= self.heard[1] / SYMBOL + 2:
            found.append(int(rng.choice([tone for tone in range(len(CLOCK_BANDS)) if tone not in found[-APART:]])))
        return found

    def _picture(self, k: int) -> np.ndarray:
        rng = np.random.default_rng((3, self.number))
        coarse = rng.uniform(40, 215, (32, 32))
        texture = np.kron(coarse, np.ones((8, 8)))
        for axis in (0, 1):
            texture = sum(np.roll(texture, shift, axis) for shift in range(-3, 4)) / 7
        x, y = self.places()[k]
        picture = np.roll(texture, (y, x), (0, 1))[:SIDE, :SIDE].copy()
        rows = (self.number << 4 | self.number ^ 15, k, k ^ 255)
        for row, byte in enumerate(rows):
            for column in range(8):
                bit = byte >> (7 - column) & 1
                picture[row * BLOCK :][:BLOCK, column * BLOCK :][:, :BLOCK] = 20 + 215 * bit
        return np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)

    def _samples(self) -> np.ndarray:
        times = np.arange(*(round(time * self.rate) for time in self.heard)) / self.rate
        symbols = np.array(self.symbols())[(times // SYMBOL).astype(int)]
        low = CENTRES[NUMBER_BANDS[self.number]]
        high = CENTRES[np.array(CLOCK_BANDS)[symbols]]
        phase = np.cumsum(high) / self.rate  # without jumps, which would sound in all bands
        return (0.25 * np.sin(2 * np.pi * low * times) + 0.25 * np.sin(2 * np.pi * phase)).astype(np.float32)


def objections(store: Store, video: Video, recording: Recording) -> list[str]:
    """What of a stored video is not what was recorded, or not when it was: every frame, pair and row is looked at."""
    frames = store.frames(video, "rgb", range(video.frames))
    flow = np.moveaxis(dequantise_flow(store.frames(video, "flow", range(video.frames - 1))), 1, -1)
    mel = store.mel(video, 0, round(video.seconds * MEL_RATE))
    numbers = [read_picture(frame) for frame in frames]
    return (
        _wrong_frames(numbers, recording, store.fps)
        + _wrong_flow(flow, numbers, recording, store.fps)
        + _wrong_sound(mel, recording)
    )


def read_picture(frame: np.ndarray) -> tuple[int, int] | None:
    """The video's number and the picture's, or None if the blocks contradict each other. frame: (H, W, 3) uint8."""
    size = BLOCK * STORED // SIDE
    inner = slice(size // 4, size - size // 4)
    blocks = frame[: 3 * size].mean(axis=2).reshape(3, size, 8, size)[:, inner, :, inner].mean(axis=(1, 3))
    number, k, inverse = (int("".join("01"[int(level > 127)] for level in row), 2) for row in blocks)
    return (number >> 4, k) if (number >> 4 ^ number & 15, k ^ inverse) == (15, 255) else None


def _wrong_frames(numbers: list, recording: Recording, fps: float) -> list[str]:
    found = []
    start, half = recording.times[0], 0.5 / fps + 0.001  # the times in a file are rounded
    following = [*recording.times[1:], np.inf]
    seen = set()
    for slot, read in enumerate(numbers):
        if read is None or read[0] != recording.number or read[1] >= len(recording.times):
            found.append(f"frame {slot} reads {read}")
            continue
        seen.add(read[1])
        time = start + slot / fps
        # the last picture of a slot wins, and stays until the slot of the next one
        if not (recording.times[read[1]] <= time + half and following[read[1]] >= time + 0.5 / fps - 0.001):
            found.append(f"frame {slot}, at {time:.3f} s, is picture {read[1]} of {recording.times[read[1]]:.3f} s")
    if not {0, len(recording.times) - 1} <= seen:
        found.append("the first or the last picture is missing")
    return found


def _wrong_flow(flow: np.ndarray, numbers: list, recording: Recording, fps: float) -> list[str]:
    """Every step from a picture to the next other one holds the velocity between the two, in pixels a step."""
    found = []
    top, edge, scale = BITS * STORED // SIDE, 6, STORED / SIDE
    moved = np.median(flow[:, top + edge : -edge, edge:-edge], axis=(1, 2))
    places = recording.places()
    if None in numbers or max(number for _, number in numbers) >= len(places):
        return ["flow is between frames that nobody can read"]
    shown = [number for _, number in numbers]
    for k, motion in enumerate(moved):
        later = [number for number in shown[k + 1 :] if number != shown[k]]
        earlier = [number for number in shown[:k] if number != shown[k]]
        one, other = (shown[k], later[0]) if later else (earlier[-1], shown[k])  # at the end the motion goes on
        steps = (recording.times[other] - recording.times[one]) * fps
        wanted = (places[other] - places[one]) * scale / steps
        if np.abs(motion - wanted).max() > 0.45 * STEP * scale:
            found.append(f"flow {k} is {motion.round(2)}, not {wanted.round(2)}")
    return found


def _wrong_sound(mel: np.ndarray, recording: Recording) -> list[str]:
    found = []
    begin, end = recording.heard
    symbols = recording.symbols()
    for row, levels in enumerate(mel.astype(np.float32)):
        time = recording.times[0] + row / MEL_RATE
        if not begin - TOLERANCE <= time <= end + TOLERANCE:
            if levels.max() > SILENCE + 7:  # a lossy codec's echo may sound
                found.append(f"row {row}, at {time:.2f} s, is not silent")
            continue
        if not begin + TOLERANCE <= time <= end - TOLERANCE:
            continue  # either
        number, symbol = (int(levels[list(bands)].argmax()) for bands in (NUMBER_BANDS, CLOCK_BANDS))
        near = {symbols[int(t // SYMBOL)] for t in (time - TOLERANCE, time, time + TOLERANCE)}
        if number != recording.number or symbol not in near:
            found.append(f"row {row}, at {time:.2f} s, sounds as {number} {symbol}, not {recording.number} {near}")
    return found


def recordings() -> list[Recording]:
    """Twelve, of all kinds, with names that sort in another order than their numbers, their lengths and their times."""

    def steady(fps: float, seconds: float, start: float = 0.0) -> list[float]:
        return [start + k / fps for k in range(round(seconds * fps))]

    def restless(seed: int, seconds: float, start: float = 0.0) -> list[float]:
        rng, times = np.random.default_rng(seed), [start]
        while times[-1] < start + seconds:
            times.append(times[-1] + float(rng.choice([0.021, 0.033, 0.04, 0.05, 0.12])))
        return times

    raw = {"codec": "ffv1", "sound_codec": "pcm_s16le"}
    return [
        Recording(0, steady(25, 3.2), (0.0, 3.2), "b/k.mp4"),
        Recording(1, steady(30, 2.5), (0.0, 2.5), "a/zz.mp4", fps=30),
        Recording(2, steady(12.5, 3.2), (0.0, 3.2), "c/b.mp4", fps=Fraction(25, 2)),
        Recording(3, restless(3, 3.0), (0.0, 3.0), "a/m.mkv", rate=16_000, **raw),
        Recording(4, steady(25, 4.4, start=0.5), (0.0, 4.9), "c/0.mkv", rate=44_100, **raw),
        Recording(5, steady(25, 3.0), (0.3, 2.7), "b/9.mkv", **raw),
        Recording(6, steady(30, 3.2, start=0.73), (0.2, 4.1), "a/10.mkv", fps=30, rate=16_000, **raw),
        Recording(7, steady(30, 1.2), (0.0, 1.2), "b/1.mp4", fps=30, b_frames=2),
        Recording(8, steady(25, 3.2), (0.0, 3.2), "b/A.mp4"),
        Recording(9, restless(9, 2.6, start=0.61), (0.0, 3.0), "a/2.mkv", **raw),
        Recording(10, steady(12.5, 2.4, start=0.24), (0.4, 3.3), "c/x.mkv", fps=Fraction(25, 2), rate=22_050, **raw),
        Recording(11, restless(11, 3.6), (0.25, 3.6), "c/Z.mp4"),
    ]
