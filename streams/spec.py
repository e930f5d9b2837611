"""What a stream is to the rest of the program."""

from typing import Protocol

import numpy as np
import torch

from preprocess.index import Video
from preprocess.store import Store
from streams.clip import ClipSettings


class Stream(Protocol):
    """One way to perceive a video. A new one is a class like this and an entry in streams.STREAMS."""

    towers: tuple[str, ...]  # names in streams.towers.TOWERS that can encode it; the first is the default

    def channels(self, parameters: dict) -> int:
        """Channels (or mel bands) of a tower's input, given the store's parameters."""
        ...

    def read(
        self, store: Store, video: Video, start: int, clip: ClipSettings, rng: np.random.Generator | None
    ) -> np.ndarray | None:
        """The clip from frame `start` on; None where the stream is absent. Augmented if there is an `rng`."""
        ...

    def empty(self, store: Store, clip: ClipSettings) -> np.ndarray:
        """What stands in a batch where the stream is absent: of the right shape, never looked at."""
        ...

    def prepare(self, batch: torch.Tensor, *, training: bool) -> torch.Tensor:
        """What `read` gave, as a batch on the device → a tower's input. Augments a batch in training."""
        ...
