"""TV-L1 of a whole video at once, on a GPU. The method and its schedules are in `schedule.py`.

All pairs of a chunk go through every level together. Pairs are independent, so the size of a chunk changes
speed and memory, never a result. The steps come from `cuda_kernels.py` on a GPU with Triton, else from
`torch_steps.py`, which runs anywhere.
"""

from types import ModuleType

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from preprocess.flow.schedule import Settings

# Pixels of all pairs in a chunk. A pixel needs about 35 float32 at once, so 16 Mi take about 2.3 GB.
CHUNK = 1 << 24


def solve(
    frames: np.ndarray, settings: Settings, *, device: str = "cuda", steps: ModuleType | None = None, chunk: int = CHUNK
) -> np.ndarray:
    """Flow of each frame to the next; (T, H, W) uint8 -> (T - 1, H, W, 2) float32, pixels, x then y.

    Args:
        device: a torch device; "cpu" is the slow path for tests.
        steps: the module `cuda_kernels` or `torch_steps`; chosen by the device if None.
        chunk: pixels, over all pairs, that are solved together; at least one pair.
    """
    steps = steps or _steps_for(device)
    count, height, width = frames.shape
    flows = np.zeros((count - 1, height, width, 2), np.float32)
    # Identical frames have zero flow, with which the result is initialised.
    moving = [t for t in range(count - 1) if not np.array_equal(frames[t], frames[t + 1])]
    pairs = max(1, chunk // (height * width))
    for start in range(0, len(moving), pairs):
        chosen = np.array(moving[start : start + pairs])
        first, second = (_to_device(frames[chosen + later], device) for later in (0, 1))
        flow = _solve_pairs(first, second, settings, steps)
        flows[chosen] = flow.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return flows


def _steps_for(device: str) -> ModuleType:
    if torch.device(device).type == "cuda":
        try:
            from preprocess.flow import cuda_kernels
        except ImportError:  # no Triton for this platform; plain torch gives the same flow, slower
            pass
        else:
            return cuda_kernels
    from preprocess.flow import torch_steps

    return torch_steps


def _to_device(frames: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).float()


@torch.no_grad()
def _solve_pairs(first: torch.Tensor, second: torch.Tensor, settings: Settings, steps: ModuleType) -> torch.Tensor:
    """(N, H, W) grey, 0 to 255 -> flow (2, N, H, W)."""
    sizes = settings.sizes(*first.shape[1:])
    pyramids = [_pyramid(image, sizes, settings) for image in (first, second)]
    flow = torch.zeros((2, len(first), *sizes[-1]), device=first.device)
    for level in reversed(range(len(sizes))):
        flow = _enlarged(flow, sizes[level])
        dual = torch.zeros((4, *flow.shape[1:]), device=flow.device)
        image, other = pyramids[0][level], pyramids[1][level]
        warps, iterations = settings.passes_at(level)
        for _ in range(warps):
            data = steps.linearise(image, steps.warp(other, flow), flow, settings)
            steps.iterate(flow, data, dual, settings, iterations)
            flow = steps.median(flow)
    return flow


def _pyramid(image: torch.Tensor, sizes: list[tuple[int, int]], settings: Settings) -> list[torch.Tensor]:
    levels = [_blur(image, settings.denoise)]
    for size in sizes[1:]:
        levels.append(_resized(_blur(levels[-1], settings.antialias), size))
    return levels


def _enlarged(flow: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Flow at a finer level's size, in that level's pixels."""
    height, width = flow.shape[2:]
    if (height, width) == size:
        return flow
    u, v = (_resized(component, size) for component in flow)
    return torch.stack([u * (size[1] / width), v * (size[0] / height)])


def _resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    resized = interpolate(image[:, None], size=size, mode="bilinear", align_corners=False)
    return resized[:, 0].contiguous()


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """5x5 Gaussian, the edge repeated; OpenCV's weights."""
    weights = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).tolist()
    across = pad(image, (2, 2, 0, 0), mode="replicate")
    image = sum(weight * across[:, :, i : i + image.shape[2]] for i, weight in enumerate(weights))
    down = pad(image, (0, 0, 2, 2), mode="replicate")
    return sum(weight * down[:, i : i + image.shape[1]] for i, weight in enumerate(weights)).contiguous()
