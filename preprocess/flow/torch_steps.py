"""The four steps of TV-L1 in plain torch, for all pairs of a chunk together; any device.

The same arithmetic as `cpu.py`, whole frames at a time. `cuda_kernels.py` has the same functions as
GPU kernels; this is the one to read, to test against, and to fall back on where Triton is missing.

Shapes: N pairs; image and warped (N, H, W), flow (2, N, H, W), data and dual (4, N, H, W), all float32.
"""

import torch
from torch.nn.functional import pad

from preprocess.flow.schedule import FLAT, MEDIAN, Settings


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """image at x + flow, bilinear, the edge repeated outside."""
    height, width = image.shape[1:]
    xs = torch.arange(width, dtype=torch.float32, device=image.device)
    ys = torch.arange(height, dtype=torch.float32, device=image.device)[:, None]
    at_x = (xs + flow[0]).clamp(0, width - 1)
    at_y = (ys + flow[1]).clamp(0, height - 1)
    x0, y0 = at_x.long(), at_y.long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    right, down = at_x - x0, at_y - y0

    flat = image.flatten(1)

    def pick(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return flat.gather(1, (y * width + x).flatten(1)).reshape(image.shape)

    upper, lower = pick(y0, x0), pick(y1, x0)
    upper = upper + right * (pick(y0, x1) - upper)
    lower = lower + right * (pick(y1, x1) - lower)
    return upper + down * (lower - upper)


def linearise(image: torch.Tensor, warped: torch.Tensor, flow: torch.Tensor, settings: Settings) -> torch.Tensor:
    """The residual made linear at `flow`: fields offset, nx, ny, limit, as in `cpu_kernels.linearise`."""
    height, width = image.shape[1:]
    residual = warped - image
    old = 0.5 * settings.blend / (1 + (residual / settings.agreement) ** 2)
    new = 0.5 - old
    (warped_x, warped_y), (image_x, image_y) = _differences(warped), _differences(image)
    gx = new * warped_x + old * image_x
    gy = new * warped_y + old * image_y
    squared = gx * gx + gy * gy
    inverse = (squared + FLAT).rsqrt()
    nx, ny = gx * inverse, gy * inverse
    at_x = torch.arange(width, dtype=torch.float32, device=image.device) + flow[0]
    at_y = torch.arange(height, dtype=torch.float32, device=image.device)[:, None] + flow[1]
    inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    offset = residual * inverse - nx * flow[0] - ny * flow[1]
    limit = settings.attachment * settings.step * squared * inverse * inside
    return torch.stack([offset, nx, ny, limit])


def _differences(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Right minus left and lower minus upper neighbour, the edge repeated."""
    around = pad(image, (1, 1, 1, 1), mode="replicate")
    return around[:, 1:-1, 2:] - around[:, 1:-1, :-2], around[:, 2:, 1:-1] - around[:, :-2, 1:-1]


def iterate(flow: torch.Tensor, data: torch.Tensor, dual: torch.Tensor, settings: Settings, iterations: int) -> None:
    """Primal-dual iterations, in place on `flow` and `dual` (ux, uy, vx, vy)."""
    offset, nx, ny, limit = data
    for _ in range(iterations):
        u = flow[0] + settings.step * _divergence(dual[0], dual[1])
        v = flow[1] + settings.step * _divergence(dual[2], dual[3])
        move = torch.maximum(torch.minimum(offset + nx * u + ny * v, limit), -limit)
        moved = torch.stack([u - move * nx, v - move * ny])
        bar = 2 * moved - flow
        flow.copy_(moved)
        for component, field in zip(bar, (dual[:2], dual[2:]), strict=True):
            field[0, :, :, :-1] += settings.dual_step * (component[:, :, 1:] - component[:, :, :-1])
            field[1, :, :-1] += settings.dual_step * (component[:, 1:] - component[:, :-1])
            field *= (field[0] ** 2 + field[1] ** 2).clamp(min=1).rsqrt()


def _divergence(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Backward differences; outside the frame the dual variables are zero."""
    return x - pad(x, (1, 0))[:, :, :-1] + y - pad(y, (0, 0, 1, 0))[:, :-1]


def median(flow: torch.Tensor) -> torch.Tensor:
    """5x5 median of each component, the edge repeated."""
    reach = MEDIAN // 2
    around = pad(flow, (reach, reach, reach, reach), mode="replicate")
    return around.unfold(2, MEDIAN, 1).unfold(3, MEDIAN, 1).flatten(4).median(dim=4).values
