"""Clips: one window of a video or several, segments, the same intervals of the clock for every stream."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from preprocess.common.errors import UserError
from preprocess.store.index import Video

Starts = tuple[int, ...]  # the first frame of each segment of a clip


@dataclass(frozen=True)
class ClipSettings:
    """The shape of a clip, and its augmentation. All clips of a run, in training and evaluation, have one shape."""

    frames: int = 16
    """pictures and flow fields a clip, or a segment"""
    stride: int = 2
    """steps of the store's frame rate from one picture of a clip to the next"""
    size: int = 112
    """pixels of a picture's side, cut from seven eighths of the stored short side"""
    audio_seconds: float = 2.56
    """seconds of sound a clip, or a segment, around the same centre as the pictures"""
    segments: int = 1
    """windows of a clip, one from each of so many equal parts of the video; the tower sees each by itself, and one LSTM
    all of them, so that the order of distant moments counts"""
    repeat_sound: bool = False
    """a video that is shorter than its window of sound repeats, as its pictures do, instead of standing in silence"""
    clip_of: tuple[str, ...] = ()
    """streams whose clips have another shape around the same centres, as STREAM=FRAMESxSTRIDExSIZE: rgb=8x16x112"""
    least_crop: float = 0.65
    """smallest share of the short side that a random crop shows"""
    judged_crop: float = 7 / 8
    """share of the short side that a clip shows if it is not drawn for training; 1 shows all of it"""
    flip: bool = True
    """mirror half of the training clips left to right; not where left and right mean something"""
    recolour: float = 0.0
    """share of training clips whose colours are taken away, and of those whose red, green and blue change places"""
    spec_mask: float = 0.2
    """longest share of a clip's time, and of its mel bands, that one of SpecAugment's two masks of each kind hides"""
    spec_tilt: float = 0.0
    """strength of a random filter over the bands of a clip: standard deviation in nepers of power; 1.6 is much"""
    spec_noise: float = 0.0
    """largest standard deviation of the noise on log-mel, in nepers; 2 is much"""
    blend: tuple[str, ...] = ()
    """streams of given features that are not trusted as far as they tell the training labels, as STREAM=SHARE: each row
    is blended with so much of another clip's on average, the label stays; text=0.5 halves what text tells"""

    @property
    def span(self) -> int:
        """Frames of the store that a segment covers."""
        return self.frames * self.stride

    @property
    def length(self) -> int:
        """Frames of the store that all segments cover, one after the other."""
        return self.segments * self.span

    @property
    def pictures(self) -> int:
        """Pictures of all segments."""
        return self.segments * self.frames

    @property
    def shape(self) -> str:
        """Frames, stride and size, as --clip-of takes them."""
        return f"{self.frames}x{self.stride}x{self.size}"

    def of(self, stream: str) -> "ClipSettings":
        """The shape of a stream's clips.

        Raises UserError for a --clip-of that is no shape.
        """
        return _own_clip(self, stream)

    def with_frames(self, frames: int) -> "ClipSettings":
        """Clips of so many pictures; a stream with another shape reaches as many frames beyond them as before."""
        more, texts = (frames - self.frames) * self.stride, []
        for name in self.own_streams():
            own = self.of(name)
            own = replace(own, frames=max(1, round((own.span + more) / own.stride)))
            texts.append(f"{name}={own.shape}")
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


def random_starts(video: Video, clip: ClipSettings, rng: np.random.Generator) -> Starts:
    """A clip with each segment anywhere in its part of the video (Wang et al. 2016, TSN, section 3.1)."""
    return tuple(int(rng.integers(first, last + 1)) for first, last in _parts(video.frames, clip))


def view_starts(video: Video, clip: ClipSettings, views: int) -> list[Starts]:
    """`views` clips whose segments are spread evenly, each over its part; fewer where the video is too short to differ.

    In one view each segment is in the middle of its part.
    """
    return _views(video.frames, clip, views)


@dataclass(frozen=True)
class HopStarts(Sequence[Starts]):
    """Clips of windows that follow each other by `hop` frames; if none ends with the video, one more does.

    A clip is to its `window` of so many frames as a view is to its video. A video shorter than a window has one. Each
    is made when it is asked for: a live video of a day has many.
    """

    video: Video
    clip: ClipSettings
    hop: int
    window: int

    def __len__(self) -> int:
        return 1 + -(-self._room // self.hop)

    def __getitem__(self, number: int) -> Starts:
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} windows: number {number} is none of them")
        begin = min(number * self.hop, self._room)
        return window_starts(begin, self.clip, min(self.window, self.video.frames))

    @property
    def _room(self) -> int:
        """The first frame of the last window."""
        return max(0, self.video.frames - self.window)


def window_starts(begin: int, clip: ClipSettings, window: int) -> Starts:
    """The clip of a window of so many frames that begins at `begin`: each segment in the middle of its part of it."""
    (starts,) = _views(window, clip, 1)
    return tuple(begin + start for start in starts)


def _views(frames: int, clip: ClipSettings, views: int) -> list[Starts]:
    parts = _parts(frames, clip)
    places = [(view + 0.5) / views for view in range(views)]
    return sorted({tuple(first + round((last - first) * place) for first, last in parts) for place in places})


def _parts(frames: int, clip: ClipSettings) -> list[tuple[int, int]]:
    """For each segment, the first and the last frame that it may begin at, so that it lies in its part of the video.

    Where the parts are shorter than a segment, segments overlap, each around the middle of its part.
    """
    room = max(0, frames - clip.span)
    parts = []
    for begin, end in pairwise(frames * edge // clip.segments for edge in range(clip.segments + 1)):
        first, last = begin, end - clip.span
        if last < first:
            first = last = min(max(0, (first + last) // 2), room)
        parts.append((first, last))
    return parts


def own_start(start: int, clip: ClipSettings, own: ClipSettings, length: float) -> int:
    """First frame of a stream's own clip around the centre of the one from `start` on.

    It lies within the video of `length` frames if that is long enough.
    """
    if own.span == clip.span:
        return start
    return int(max(0, min(start + (clip.span - own.span) // 2, length - own.span)))


def picture_times(starts: Sequence[int], clip: ClipSettings, length: int, fps: float) -> np.ndarray:
    """(S T,) the middles, in seconds, of the pictures of segments that begin at `starts`, in a video of `length`."""
    return (np.concatenate([steps(start, clip, length) for start in starts]) + 0.5) / fps


def steps(start: int, clip: ClipSettings, length: int) -> np.ndarray:
    """Indices (frames,) of a segment that starts at `start`, in a stream of `length` steps.

    Beyond the end the stream repeats from its start; the strides go on from there.
    """
    return (start + clip.stride * np.arange(clip.frames)) % (-(-length // clip.stride) * clip.stride)
