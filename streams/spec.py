"""The interface of a stream."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings
from streams.geometry import Crop

Shapes = dict[str, tuple[tuple[int, ...], type]]  # name → shape of one clip's array, and its type
GIVEN = "given"  # the array's name where others extracted the features: (B, S T, D)
FEATURES = "features"  # the array's name where a clip is a frozen tower's kept features: (B, S T, D)


class Stream(Protocol):
    """One modality of a video. A new stream is a class like this and an entry in streams.registry.STREAMS."""

    towers: tuple[str, ...]  # names in streams.towers.TOWERS that can encode it; the first is the default
    libraries: tuple[str, ...]  # libraries in LIBRARIES there whose networks, as LIBRARY:NAME, can encode it
    nothing: float  # the value of a tower's input that shows nothing: mid-grey, no motion, silence

    def channels(self, parameters: dict) -> int:
        """Channels (or mel bands) of a tower's input, given the store's parameters."""
        ...

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        """The arrays of a clip, S segments in the order of time, before `prepare`, given the store's parameters."""
        ...

    def reach(self, start: int, clip: ClipSettings, fps: float) -> tuple[float, float]:
        """The interval, in seconds of the video, that the segment from frame `start` on covers."""
        ...

    def times(self, video: Video, starts: Sequence[int], clip: ClipSettings, fps: float) -> np.ndarray:
        """The middles of a tower's S T input steps, in seconds of the video, (S T,); some may lie outside of it."""
        ...

    def read(
        self,
        store: Store,
        video: Video,
        starts: Sequence[int],
        clip: ClipSettings,
        crop: Crop,
        into: dict[str, np.ndarray],
    ) -> bool:
        """Read a clip into the arrays of `shapes`; False where the stream is absent from all of it.

        Its segments begin at the frames `starts`, and are read one by one, since all between them may be hours.

        The `crop` is the same for all streams: what is seen and what moves belong together.
        """
        ...

    def prepare(self, clips: dict[str, torch.Tensor], clip: ClipSettings, *, training: bool) -> torch.Tensor:
        """A batch of such arrays, on the device → a tower's input. Does the rest of the augmentation."""
        ...
