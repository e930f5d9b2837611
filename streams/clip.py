"""Clips: windows of a video, the same interval of the clock for every stream."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store.index import Video


@dataclass(frozen=True)
class ClipSettings:
    """The shape of a clip, and its augmentation. All clips of a run, in training and evaluation, have one shape."""

    frames: int = 16
    """pictures and flow fields a clip"""
    stride: int = 2
    """steps of the store's frame rate from one picture of a clip to the next"""
    size: int = 112
    """pixels of a picture's side, cut from seven eighths of the stored short side"""
    audio_seconds: float = 2.56
    """seconds of sound a clip, around the same centre as the pictures"""
    clip_of: tuple[str, ...] = ()
    """streams whose clips have another shape around the same centre, as STREAM=FRAMESxSTRIDExSIZE: rgb=8x16x112"""
    least_crop: float = 0.65
    """smallest share of the short side that a random crop shows"""
    recolour: float = 0.0
    """share of training clips whose colours are taken away, and of those whose red, green and blue change places"""
    spec_mask: float = 0.2
    """longest share of a clip's time, and of its mel bands, that one of SpecAugment's two masks of each kind hides"""
    spec_tilt: float = 0.0
    """strength of a random filter over the bands of a clip: standard deviation in nepers of power; 1.6 is much"""
    spec_noise: float = 0.0
    """largest standard deviation of the noise on log-mel, in nepers; 2 is much"""

    @property
    def span(self) -> int:
        """Frames of the store that a clip covers."""
        return self.frames * self.stride

    def of(self, stream: str) -> "ClipSettings":
        """The shape of a stream's clips.

        Raises UserError for a --clip-of that is no shape.
        """
        return _own_clip(self, stream)

    def with_frames(self, frames: int) -> "ClipSettings":
        """Clips of so many pictures; a stream with another shape reaches as many frames beyond them as before."""
        own = {name: self.of(name) for name, _ in map(_shape_of, self.clip_of)}
        spans = {name: frames * self.stride + clip.span - self.span for name, clip in own.items()}
        texts = (
            f"{name}={max(1, round(spans[name] / clip.stride))}x{clip.stride}x{clip.size}" for name, clip in own.items()
        )
        return replace(self, frames=frames, clip_of=tuple(texts))

    def own_streams(self) -> list[str]:
        """The streams that have a shape of their own."""
        return [name for name, _ in map(_shape_of, self.clip_of)]


@lru_cache
def _own_clip(clip: ClipSettings, stream: str) -> ClipSettings:
    shapes = dict(map(_shape_of, clip.clip_of))
    return replace(clip, clip_of=(), **shapes.get(stream, {}))


def _shape_of(text: str) -> tuple[str, dict[str, int]]:
    """``"rgb=8x16x112"`` → the stream, and its frames, stride and size."""
    stream, _, shape = text.partition("=")
    numbers = shape.split("x")
    if len(numbers) != 3 or not all(number.isdecimal() and int(number) for number in numbers) or int(numbers[2]) < 32:
        raise UserError(f"--clip-of {text}: give frames, stride and size (from 32 on), as in --clip-of rgb=8x16x112")
    return stream, dict(zip(("frames", "stride", "size"), map(int, numbers), strict=True))


def random_start(video: Video, clip: ClipSettings, rng: np.random.Generator) -> int:
    """First frame of a clip anywhere in the video."""
    return int(rng.integers(0, max(0, video.frames - clip.span) + 1))


def view_starts(video: Video, clip: ClipSettings, views: int) -> list[int]:
    """First frames of `views` clips spread evenly over the video; fewer where the video is too short to differ.

    One view is the middle.
    """
    room = max(0, video.frames - clip.span)
    return sorted({round(room * (view + 0.5) / views) for view in range(views)})


def hop_starts(video: Video, clip: ClipSettings, hop: int) -> list[int]:
    """First frames of clips that follow each other by `hop` frames; if none ends with the video, one more does.

    A video shorter than a clip has one.
    """
    room = max(0, video.frames - clip.span)
    starts = list(range(0, room + 1, hop))
    return starts if starts[-1] == room else [*starts, room]


def own_start(start: int, clip: ClipSettings, own: ClipSettings, length: float) -> int:
    """First frame of a stream's own clip around the centre of the one from `start` on.

    It lies within the video of `length` frames if that is long enough.
    """
    if own.span == clip.span:
        return start
    return int(max(0, min(start + (clip.span - own.span) // 2, length - own.span)))


def steps(start: int, clip: ClipSettings, length: int) -> np.ndarray:
    """Indices (frames,) of a clip that starts at `start`, in a stream of `length` steps.

    Beyond the end the stream repeats from its start; the strides go on from there.
    """
    return (start + clip.stride * np.arange(clip.frames)) % (-(-length // clip.stride) * clip.stride)
