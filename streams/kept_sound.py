"""Features of a frozen tower that takes sound in patches, kept as those of pictures are: one each STEP rows of a video.

Patch k of a video covers the rows from (k - LEAD) STEP on, with silence outside of the video; patch 0 is all silence.
"""

from collections.abc import Sequence

import numpy as np
from torch import nn

from preprocess.store import Store
from preprocess.store.format import MEL_RATE
from preprocess.store.index import Video
from streams.audio import PATCH, STEP, PatchedAudio
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings, Starts
from streams.geometry import Crop
from streams.kept import KeptFeatures
from streams.spec import FEATURES, Shapes

LEAD = PATCH // STEP  # patches of a video that begin before it


class KeptSound(KeptFeatures):
    """Reads a stream's clips as (S T', D) float16 from a file, in place of its sound. Nothing is done to them."""

    unit = "patch"
    _audio = PatchedAudio()

    @classmethod
    def can_keep(cls, clip: ClipSettings) -> bool:
        return not clip.repeat_sound  # a sound that repeats has other patches each time

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        return {FEATURES: ((clip.segments * self._steps(clip), self.shape[1]), np.float16)}

    def read(
        self,
        store: Store,
        video: Video,
        starts: Sequence[int],
        clip: ClipSettings,
        crop: Crop,
        into: dict[str, np.ndarray],
    ) -> bool:
        if not video.streams[self.name]:
            return False
        begin, end = self.begins[video.content.encode()]
        kept = np.memmap(self.path, np.float16, "r", self.offset, self.shape)
        windows = [self._audio.window(video, start // clip.stride * clip.stride, clip, store.fps) for start in starts]
        steps = np.array([first for first, _ in windows])[:, None] // STEP + LEAD + np.arange(self._steps(clip))
        inside = np.array([there for _, there in windows])[:, None] & (steps > 0) & (steps < end - begin)
        np.take(kept, begin + np.where(inside, steps, 0).ravel(), axis=0, out=into[FEATURES], mode="clip")
        return any(there for _, there in windows)

    def _steps(self, clip: ClipSettings) -> int:
        """Patches of a segment."""
        return (self._audio.rows(clip) - PATCH) // STEP + 1


class WholeSounds(ClipDataset):
    """All patches of videos: clips that follow each other, each of as many patches as the clip has frames."""

    def __init__(self, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        self.streams = dict.fromkeys(self.streams, _Rows())

    def starts(self, video: Video) -> list[Starts]:
        """The first row of each clip."""
        return [((patch - LEAD) * STEP,) for patch in range(0, self.count(video), self.clip.frames)]

    def count(self, video: Video) -> int:
        """The patches of a video."""
        return LEAD + -(-round(video.seconds * MEL_RATE) // STEP)

    def counts(self, batch: Batch) -> list[int]:
        """The patches of each clip of a batch that are the video's; those after them are silent."""
        counts = [self.count(self.videos[row]) for row in batch.videos.tolist()]
        firsts = (batch.starts[:, 0] // STEP + LEAD).tolist()
        return [min(self.clip.frames, count - first) for count, first in zip(counts, firsts, strict=True)]

    def decides(self, tower: nn.Module) -> str:
        """All that decides the features, beside the videos and the weights."""
        return f"{tower.name} {PATCH} {STEP}"


class _Rows(PatchedAudio):
    """So many patches from a row on, which stands in a frame's place; silence outside of the video."""

    def rows(self, clip: ClipSettings) -> int:
        return PATCH + STEP * (clip.frames - 1)

    def window(self, video: Video, start: int, clip: ClipSettings, fps: float) -> tuple[int, bool]:
        return start, True
