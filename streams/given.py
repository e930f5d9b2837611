"""A stream of features that others extracted: reading its clips, towers."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings, picture_times, steps
from streams.geometry import Crop
from streams.spec import GIVEN, Shapes


class Given:
    """Rows of features: (S T, D) float32 → (B, D, S T). They are spread evenly over the video; the tower normalises
    each feature, and `blended` is all that is done to them in training."""

    towers = ("dense", "middle", "conv1d")
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


def blended(rows: torch.Tensor, there: torch.Tensor, share: float) -> torch.Tensor:
    """Each row of features (B, T, D) with a share of another clip's row: `share` on average, evenly distributed.

    The label stays the clip's own: what is learned is to trust these features no more than they will deserve. It is for
    features that a network made which had learned these very labels, and which tell them better here than elsewhere.
    there: (N,) indices of the clips that have the stream; the others are left as they are.
    """
    own = rows[there]
    half = min(share, 1 - share)
    partner = torch.rand(own.shape[:2], device=own.device).argsort(dim=0)
    other = own.gather(0, partner[..., None].expand_as(own))
    shares = torch.empty(*own.shape[:2], 1, device=own.device).uniform_(share - half, share + half)
    return rows.index_copy(0, there, own.lerp(other, shares))


def parse_blend(texts: Sequence[str]) -> dict[str, float]:
    """``("text=0.5",)`` → the mean share of each stream.

    Raises UserError for a stream that is named twice, and for what is no share.
    """
    shares: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name in shares:
            raise UserError(f"--blend gives {name} twice: name one share a stream")
        try:
            shares[name] = float(number)
        except ValueError:
            shares[name] = math.nan
        if not 0 < shares[name] <= 1:
            raise UserError(f"--blend {text}: give a share above 0 and at most 1, as in --blend text=0.5")
    return shares
