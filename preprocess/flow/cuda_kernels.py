"""The four steps of TV-L1 as Triton kernels; same functions and shapes as `torch_steps.py`.

Iterations are bound by memory: the primal kernel moves 14 float32 a pixel and the dual kernel 10, both in
place, since each writes only its own pixel of the fields that the other one reads. A kernel sees the pixels of
all pairs as one line; (y, x) is found by division.

With TRITON_INTERPRET=1 the same kernels run on CPU tensors, which is how they are tested without a GPU.
"""

import torch
import triton
import triton.language as tl

from preprocess.flow.schedule import FLAT, MEDIAN, Settings

BLOCK = 1024  # pixels a program
MEDIAN_BLOCK = 128  # pixels a program, each with its whole window in registers
WINDOW = 32  # Triton's arrays have powers of two; the one above 5 x 5


@triton.jit
def _warp(image, flow, warped, total, height, width, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    here = at < total
    x = at % width
    y = at // width % height
    frame = at - y * width - x
    at_x = tl.load(flow + at, here, 0.0) + x
    at_y = tl.load(flow + total + at, here, 0.0) + y
    at_x = tl.minimum(tl.maximum(at_x, 0.0), width - 1.0)
    at_y = tl.minimum(tl.maximum(at_y, 0.0), height - 1.0)
    x0 = at_x.to(tl.int32)
    y0 = at_y.to(tl.int32)
    right = at_x - x0
    down = at_y - y0
    x1 = tl.minimum(x0 + 1, width - 1)
    row0 = image + frame + y0 * width
    row1 = image + frame + tl.minimum(y0 + 1, height - 1) * width
    upper = tl.load(row0 + x0, here, 0.0)
    lower = tl.load(row1 + x0, here, 0.0)
    upper += right * (tl.load(row0 + x1, here, 0.0) - upper)
    lower += right * (tl.load(row1 + x1, here, 0.0) - lower)
    tl.store(warped + at, upper + down * (lower - upper), here)


@triton.jit
def _linearise(
    image, warped, flow, data, total, height, width, reach, blend, agreement, floor: tl.constexpr, block: tl.constexpr
):
    at = tl.program_id(0) * block + tl.arange(0, block)
    here = at < total
    x = at % width
    y = at // width % height
    left = at - (x > 0)
    right = at + (x < width - 1)
    up = at - tl.where(y > 0, width, 0)
    down = at + tl.where(y < height - 1, width, 0)
    residual = tl.load(warped + at, here, 0.0) - tl.load(image + at, here, 0.0)
    doubt = residual / agreement
    old = 0.5 * blend / (1.0 + doubt * doubt)
    new = 0.5 - old
    gx = new * (tl.load(warped + right, here, 0.0) - tl.load(warped + left, here, 0.0)) + old * (
        tl.load(image + right, here, 0.0) - tl.load(image + left, here, 0.0)
    )
    gy = new * (tl.load(warped + down, here, 0.0) - tl.load(warped + up, here, 0.0)) + old * (
        tl.load(image + down, here, 0.0) - tl.load(image + up, here, 0.0)
    )
    squared = gx * gx + gy * gy
    inverse = 1.0 / tl.sqrt(squared + floor)
    nx = gx * inverse
    ny = gy * inverse
    u = tl.load(flow + at, here, 0.0)
    v = tl.load(flow + total + at, here, 0.0)
    inside = (x + u >= 0) & (x + u <= width - 1) & (y + v >= 0) & (y + v <= height - 1)
    tl.store(data + at, residual * inverse - nx * u - ny * v, here)
    tl.store(data + total + at, nx, here)
    tl.store(data + 2 * total + at, ny, here)
    tl.store(data + 3 * total + at, tl.where(inside, reach * squared * inverse, 0.0), here)


@triton.jit
def _primal(flow, bar, data, dual, total, height, width, step, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    here = at < total
    x = at % width
    y = at // width % height
    has_left = here & (x > 0)
    has_upper = here & (y > 0)
    ux = dual + at
    uy = ux + total
    vx = uy + total
    vy = vx + total
    u0 = tl.load(flow + at, here, 0.0)
    v0 = tl.load(flow + total + at, here, 0.0)
    u = u0 + step * (
        tl.load(ux, here, 0.0)
        - tl.load(ux - 1, has_left, 0.0)
        + tl.load(uy, here, 0.0)
        - tl.load(uy - width, has_upper, 0.0)
    )
    v = v0 + step * (
        tl.load(vx, here, 0.0)
        - tl.load(vx - 1, has_left, 0.0)
        + tl.load(vy, here, 0.0)
        - tl.load(vy - width, has_upper, 0.0)
    )
    nx = tl.load(data + total + at, here, 0.0)
    ny = tl.load(data + 2 * total + at, here, 0.0)
    limit = tl.load(data + 3 * total + at, here, 0.0)
    move = tl.load(data + at, here, 0.0) + nx * u + ny * v
    move = tl.maximum(tl.minimum(move, limit), -limit)
    u -= move * nx
    v -= move * ny
    tl.store(flow + at, u, here)
    tl.store(flow + total + at, v, here)
    tl.store(bar + at, 2.0 * u - u0, here)
    tl.store(bar + total + at, 2.0 * v - v0, here)


@triton.jit
def _dual(bar, dual, total, height, width, dual_step, block: tl.constexpr):
    # The program has one axis more than the primal kernel: component 0 is u, 1 is v.
    component = tl.program_id(1)
    at = tl.program_id(0) * block + tl.arange(0, block)
    here = at < total
    x = at % width
    y = at // width % height
    value = bar + component * total + at
    px = dual + 2 * component * total + at
    py = px + total
    middle = tl.load(value, here, 0.0)
    # Beyond the right and lower edges the flow repeats itself: no difference.
    right = tl.load(value + (x < width - 1), here, 0.0)
    below = tl.load(value + tl.where(y < height - 1, width, 0), here, 0.0)
    dx = tl.load(px, here, 0.0) + dual_step * (right - middle)
    dy = tl.load(py, here, 0.0) + dual_step * (below - middle)
    shrink = 1.0 / tl.sqrt(tl.maximum(dx * dx + dy * dy, 1.0))
    tl.store(px, dx * shrink, here)
    tl.store(py, dy * shrink, here)


@triton.jit
def _median(flow, smooth, total, height, width, size: tl.constexpr, padded: tl.constexpr, block: tl.constexpr):
    at = tl.program_id(0) * block + tl.arange(0, block)
    here = at < total
    x = at % width
    y = at // width % height
    frame = at - y * width - x
    k = tl.arange(0, padded)[None, :]
    near_x = tl.minimum(tl.maximum(x[:, None] + k % size - size // 2, 0), width - 1)
    near_y = tl.minimum(tl.maximum(y[:, None] + k // size - size // 2, 0), height - 1)
    in_window = here[:, None] & (k < size * size)
    values = tl.load(flow + frame[:, None] + near_y * width + near_x, in_window, 0.0)
    # The median is the value that half of the others are below. Equal values count by their place.
    below = tl.zeros_like(near_x)
    for j in tl.static_range(size * size):
        other_x = tl.minimum(tl.maximum(x + j % size - size // 2, 0), width - 1)
        other_y = tl.minimum(tl.maximum(y + j // size - size // 2, 0), height - 1)
        other = tl.load(flow + frame + other_y * width + other_x, here, 0.0)[:, None]
        below += ((other < values) | ((other == values) & (k > j))).to(tl.int32)
    middle = in_window & (below == size * size // 2)
    tl.store(smooth + at, tl.sum(tl.where(middle, values, 0.0), axis=1), here)


def warp(image: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """image at x + flow, bilinear, the edge repeated outside."""
    warped = torch.empty_like(image)
    total = image.numel()
    _warp[(triton.cdiv(total, BLOCK),)](image, flow, warped, total, *image.shape[1:], block=BLOCK)
    return warped


def linearise(image: torch.Tensor, warped: torch.Tensor, flow: torch.Tensor, settings: Settings) -> torch.Tensor:
    """The residual made linear at `flow`: fields offset, nx, ny, limit, as in `cpu_kernels.linearise`."""
    data = torch.empty((4, *image.shape), dtype=torch.float32, device=image.device)
    total = image.numel()
    _linearise[(triton.cdiv(total, BLOCK),)](
        image,
        warped,
        flow,
        data,
        total,
        *image.shape[1:],
        settings.attachment * settings.step,
        settings.blend,
        settings.agreement,
        floor=FLAT,
        block=BLOCK,
    )
    return data


def iterate(flow: torch.Tensor, data: torch.Tensor, dual: torch.Tensor, settings: Settings, iterations: int) -> None:
    """Primal-dual iterations, in place on `flow` and `dual` (ux, uy, vx, vy)."""
    bar = torch.empty_like(flow)
    total = flow[0].numel()
    blocks = triton.cdiv(total, BLOCK)
    for _ in range(iterations):
        _primal[(blocks,)](flow, bar, data, dual, total, *flow.shape[2:], settings.step, block=BLOCK)
        _dual[(blocks, 2)](bar, dual, total, *flow.shape[2:], settings.dual_step, block=BLOCK)


def median(flow: torch.Tensor) -> torch.Tensor:
    """5x5 median of each component, the edge repeated."""
    smooth = torch.empty_like(flow)
    total = flow.numel()
    _median[(triton.cdiv(total, MEDIAN_BLOCK),)](
        flow, smooth, total, *flow.shape[2:], size=MEDIAN, padded=WINDOW, block=MEDIAN_BLOCK
    )
    return smooth
