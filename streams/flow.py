"""The flow stream: reading, augmentation, towers."""

from collections.abc import Sequence

import numpy as np
import torch

from preprocess.store import Store
from preprocess.store.format import FLOW_BOUND, FLOW_STEPS, FLOW_ZERO
from preprocess.store.index import Video
from streams.clip import ClipSettings, picture_times, steps
from streams.geometry import Crop, turn_vectors, warp_clip
from streams.spec import Shapes
from streams.towers.registry import IMAGE, SCRATCH

KNEE = 0.25  # pixels a frame, for a crop of 112: faster motion is scaled logarithmically
NOISE = 0.05  # largest standard deviation, pixels a frame: about the rounding of the store


class Flow:
    """Flow fields: (T, 2, s, s) uint8 as stored, s the short side, and a map → (B, 2, T, H, W), no motion is 0."""

    towers = (*SCRATCH, "r3d_18", "r2plus1d_18", "s3d", "places", "coarse", *IMAGE)
    libraries = ("timm",)
    nothing = 0.0

    def channels(self, parameters: dict) -> int:
        return 2

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        side = parameters["short_side"]
        return {"fields": ((clip.pictures, 2, side, side), np.uint8), "map": ((2, 3), np.float32)}

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
        if not video.streams["flow"]:
            return False
        into["map"][:] = crop.map
        for start, fields in zip(starts, np.split(into["fields"], clip.segments), strict=True):
            beside = np.minimum(steps(start, clip, video.frames), video.frames - 2)  # the last picture has no flow
            store.frames(video, "flow", beside, window=crop.window, out=fields)
        return True

    def prepare(self, clips: dict[str, torch.Tensor], clip: ClipSettings, *, training: bool) -> torch.Tensor:
        flow = warp_clip(clips["fields"], clips["map"], clip.size, zero=FLOW_ZERO).mul_(FLOW_BOUND / FLOW_STEPS)
        flow = turn_vectors(flow, clips["map"])
        if training:
            strength = torch.empty(len(flow), 1, 1, 1, 1, device=flow.device).uniform_(0, NOISE)
            flow += torch.randn_like(flow[:, :, :1]) * strength  # the same in all frames of a clip
        return squash(flow, clip.size)


def squash(flow: torch.Tensor, size: int) -> torch.Tensor:
    """Pixels a frame of a crop of `size` → about -2…2, so that small motions count beside a moving camera's.

    asinh(v / knee) / 2, which is linear for small values and logarithmic for large ones.
    """
    return torch.asinh(flow * (112 / (size * KNEE))) / 2
