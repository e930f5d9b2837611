"""What moves."""

import numpy as np
import torch
from einops import rearrange

from preprocess.encode import dequantise_flow
from preprocess.index import Video
from preprocess.store import Store
from streams.clip import ClipSettings, steps
from streams.geometry import centre_crop, random_crop, warp_flow

SCALE = 4.0  # pixels a frame that count as 1: walking and throwing, at a short side of 112
NOISE = 0.05  # largest standard deviation, pixels a frame: about the rounding of the store


class Flow:
    """Flow fields: (T, H, W, 2) float16, pixels of the crop a frame → (B, 2, T, H, W), no motion is 0."""

    towers = ("conv3d", "r2plus1d")

    def channels(self, parameters: dict) -> int:
        return 2

    def read(
        self, store: Store, video: Video, start: int, clip: ClipSettings, rng: np.random.Generator | None
    ) -> np.ndarray | None:
        if not video.streams["flow"]:
            return None
        beside = np.minimum(steps(start, clip, video.frames), video.frames - 2)  # the pictures; the last has no flow
        flow = dequantise_flow(store.frames(video, "flow", beside))
        shape = (video.height, video.width, clip.size)
        matrix = centre_crop(*shape) if rng is None else random_crop(*shape, rng)
        return warp_flow(flow, matrix, clip.size).astype(np.float16)

    def empty(self, store: Store, clip: ClipSettings) -> np.ndarray:
        return np.zeros((clip.frames, clip.size, clip.size, 2), np.float16)

    def prepare(self, batch: torch.Tensor, *, training: bool) -> torch.Tensor:
        flow = rearrange(batch, "b t h w c -> b c t h w").float()
        if training:
            strength = torch.empty(len(flow), 1, 1, 1, 1, device=flow.device).uniform_(0, NOISE)
            flow += torch.randn_like(flow[:, :, :1]) * strength  # alike in all frames of a clip
        return flow.div_(SCALE)
