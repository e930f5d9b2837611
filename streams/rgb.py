"""The RGB stream: reading, augmentation, towers."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange

from preprocess.store import Store
from preprocess.store.index import Video
from streams.clip import ClipSettings, picture_times, steps
from streams.geometry import Crop, warp_clip
from streams.spec import Shapes
from streams.towers.registry import IMAGE, SCRATCH

LUMA = (0.299, 0.587, 0.114)  # BT.601
NOISE = 0.02  # largest standard deviation, of a range of 1


class Rgb:
    """Pictures: (T, s, s, 3) uint8, s the stored short side, and a map to the crop → (B, 3, T, H, W) in -1…1."""

    towers = (*SCRATCH, "r3d_18", "r2plus1d_18", "s3d", "places", "coarse", *IMAGE)
    libraries = ("timm", "torchvision", "hf")
    nothing = 0.0  # mid-grey

    def channels(self, parameters: dict) -> int:
        return 3

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        side = parameters["short_side"]
        return {"frames": ((clip.pictures, side, side, 3), np.uint8), "map": ((2, 3), np.float32)}

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
        if not video.streams["rgb"]:
            return False
        into["map"][:] = crop.map
        for start, frames in zip(starts, np.split(into["frames"], clip.segments), strict=True):
            store.frames(video, "rgb", steps(start, clip, video.frames), window=crop.window, out=frames)
        return True

    def prepare(self, clips: dict[str, torch.Tensor], clip: ClipSettings, *, training: bool) -> torch.Tensor:
        frames = rearrange(clips["frames"], "b t h w c -> b t c h w")
        rgb = warp_clip(frames, clips["map"], clip.size).div_(255)
        if training:
            rgb = _jitter(_recolour(rgb, clip.recolour) if clip.recolour else rgb)
        return rgb.mul_(2).sub_(1)


def _recolour(rgb: torch.Tensor, share: float) -> torch.Tensor:
    """Make a random share of the clips grey, and swap the channels of as many: (B, 3, T, H, W)

    The colours of the few places in the training videos do not help elsewhere.
    """
    grey, swap = torch.rand(2, len(rgb), 1, 1, device=rgb.device) < share
    order = torch.rand(len(rgb), 3, device=rgb.device).argsort(dim=1)
    swapped = torch.eye(3, device=rgb.device)[order]  # (B, 3, 3), the source of each new channel
    luma = torch.tensor(LUMA, device=rgb.device).expand(3, 3)
    mixed = torch.where(grey, luma, torch.where(swap, swapped, torch.eye(3, device=rgb.device)))
    return torch.einsum("bij,bjthw->bithw", mixed, rgb)


def _jitter(rgb: torch.Tensor) -> torch.Tensor:
    """Vary brightness, contrast, saturation and noise, drawn once a clip, the same in all of its frames.

    rgb: (B, 3, T, H, W) in 0…1; changed in place.
    """

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.empty(len(rgb), 1, 1, 1, 1, device=rgb.device).uniform_(low, high)

    contrast, saturation, brightness = draw(0.7, 1.3), draw(0.7, 1.3), draw(-0.15, 0.15)
    luma = sum(share * rgb[:, at : at + 1] for at, share in enumerate(LUMA))
    mean = luma.mean(dim=(2, 3, 4), keepdim=True)
    grain = torch.randn_like(rgb[:, :, :1]) * draw(0, NOISE)
    # contrast * (saturation * rgb + (1 - saturation) * luma - mean) + mean + brightness + grain, in few passes
    rgb.mul_(contrast * saturation).add_(luma.mul_(contrast * (1 - saturation)))
    return rgb.add_(grain + (1 - contrast) * mean + brightness).clamp_(0, 1)
