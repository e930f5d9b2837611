"""A stream of features that others extracted: reading its clips, towers."""

from collections.abc import Sequence

import numpy as np
import torch

from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings, picture_times, steps
from streams.geometry import Crop
from streams.spec import GIVEN, Shapes


class Given:
    """Rows of features: (S T, D) float32 → (B, D, S T). They are spread evenly over the video, and nothing is done to
    them: the tower normalises each feature."""

    towers = ("dense", "conv1d")
    libraries = ()
    nothing = 0.0  # of features of any kind: no better value is known

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def channels(self, parameters: dict) -> int:
        return self.size

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        return {GIVEN: ((clip.pictures, self.size), np.float32)}

    def reach(self, start: int, clip: ClipSettings, fps: float) -> tuple[float, float]:
        return start / fps, (start + clip.span) / fps

    def times(self, video: Video, starts: Sequence[int], clip: ClipSettings, fps: float) -> np.ndarray:
        return picture_times(starts, clip, video.frames, fps)

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
        frames = np.concatenate([steps(start, clip, video.frames) for start in starts])
        into[GIVEN][:] = store.given(video, self.name, np.minimum(frames, video.frames - 1) / video.frames)
        return True

    def prepare(self, clips: dict[str, torch.Tensor], clip: ClipSettings, *, training: bool) -> torch.Tensor:
        return clips[GIVEN].transpose(1, 2)
