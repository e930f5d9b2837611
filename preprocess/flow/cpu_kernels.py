"""The steps of TV-L1 as numba kernels that sweep padded rows; `cpu.py` puts them together.

Why it is fast. One sweep down the rows does a whole primal-dual iteration: row y's flow first, then the
dual variables of row y - 1, which needed it. Rows are padded, so that x has no special cases, and begin on
a cache line; the compiler is told that the arrays do not overlap, so that the loop over x becomes plain
vector code (about 0.65 ns a pixel and iteration with AVX-512). On large frames several iterations run down
the rows together, each a row behind the one before, so that rows are still in cache.

Layout: a field is (H + 2) rows of `stride` float32 in one flat array, the frame at rows 1..H and columns
LANES..LANES + W; an array holds several fields one after the other. Offsets are unsigned, since a signed
index costs numba a test for negative values in every access.
"""

from math import sqrt

import numpy as np
from numba import njit
from numba.core.compiler import Compiler

from preprocess.flow.schedule import FLAT

LANES = 16  # float32 in a cache line, and in the widest vector register
WAVE = 4  # iterations that sweep the rows together
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
FLOOR = np.float32(FLAT)
NEXT = np.uint64(1)
u64 = np.uint64


class _NoAlias(Compiler):
    """Tells LLVM that array arguments do not overlap; it would test every pair of them in every row."""

    def define_pipelines(self):
        self.state.flags.noalias = True
        return super().define_pipelines()


def _compiled(**options):
    """njit, cached on disk. Without a writable cache folder each process compiles for itself."""

    def decorate(function):
        settings = dict(nogil=True, fastmath=True, error_model="numpy", **options)
        try:
            return njit(**settings, cache=True)(function)
        except RuntimeError:
            return njit(**settings)(function)

    return decorate


@_compiled(pipeline_class=_NoAlias)
def _iterate_row(
    row, above, new, old, n, field, turn, u, v, u_bar, v_bar, data, dual, bars, ux, uy, vx, vy, step, dual_step
):
    """Flow of one row, then the dual variables (ux, uy, vx, vy) of the row above it.

    `dual` and `bars` are the same memory as ux..vy and u_bar, v_bar, but other rows of it are read here than
    are written, so `_NoAlias` holds.
    """
    row1 = row + field
    row2 = row1 + field
    row3 = row2 + field
    left0 = row - NEXT
    left2 = row2 - NEXT
    old_v = old + turn
    right = old + NEXT
    right_v = old_v + NEXT
    for x in range(n):
        uy_above = uy[above + x]
        vy_above = vy[above + x]
        u0 = u[row + x]
        v0 = v[row + x]
        a = u0 + step * (dual[row + x] - dual[left0 + x] + dual[row1 + x] - uy_above)
        b = v0 + step * (dual[row2 + x] - dual[left2 + x] + dual[row3 + x] - vy_above)
        limit = data[row3 + x]
        nx = data[row1 + x]
        ny = data[row2 + x]
        move = min(max(data[row + x] + nx * a + ny * b, -limit), limit)
        a -= move * nx
        b -= move * ny
        u[row + x] = a
        v[row + x] = b
        a += a - u0
        b += b - v0
        u_bar[new + x] = a
        v_bar[new + x] = b

        here = bars[old + x]
        dx = ux[above + x] + dual_step * (bars[right + x] - here)
        dy = uy_above + dual_step * (a - here)
        shrink = ONE / sqrt(max(ONE, dx * dx + dy * dy))
        ux[above + x] = dx * shrink
        uy[above + x] = dy * shrink
        here = bars[old_v + x]
        dx = vx[above + x] + dual_step * (bars[right_v + x] - here)
        dy = vy_above + dual_step * (b - here)
        shrink = ONE / sqrt(max(ONE, dx * dx + dy * dy))
        vx[above + x] = dx * shrink
        vy[above + x] = dy * shrink


@_compiled()
def iterate(height, width, stride, flow, data, dual, bars, step, dual_step, iterations):
    """Primal-dual iterations, in place on `flow` (u, v) and `dual` (ux, uy, vx, vy).

    `bars` holds two rows of the extrapolated flow for each iteration of a wave.
    """
    field = (height + 2) * stride
    turn = bars.size // 2
    n = u64((width + LANES - 1) // LANES * LANES)
    u, v = flow[:field], flow[field:]
    u_bar, v_bar = bars[:turn], bars[turn:]
    ux, uy = dual[:field], dual[field : 2 * field]
    vx, vy = dual[2 * field : 3 * field], dual[3 * field :]
    done = 0
    while done < iterations:
        wave = min(WAVE, iterations - done)
        for front in range(1, height + 1 + wave):
            for k in range(max(0, front - height - 1), min(wave, front)):
                y = front - k
                row = y * stride + LANES
                new = (2 * k + (y & 1)) * stride + LANES
                old = (2 * k + 1 - (y & 1)) * stride + LANES
                # Row 0's dual variables stay zero: there is no flow above row 1. The row below the last
                # repeats it and stands still: the derivative across the lower edge is zero.
                row_step = step if y <= height else ZERO
                row_dual_step = dual_step if y > 1 else ZERO
                if y > height:
                    for x in range(width):
                        u[row + x] = u_bar[old + x]
                        v[row + x] = v_bar[old + x]
                _iterate_row(
                    u64(row),
                    u64(row - stride),
                    u64(new),
                    u64(old),
                    n,
                    u64(field),
                    u64(turn),
                    u,
                    v,
                    u_bar,
                    v_bar,
                    data,
                    dual,
                    bars,
                    ux,
                    uy,
                    vx,
                    vy,
                    row_step,
                    row_dual_step,
                )
                u_bar[new + width] = u_bar[new + width - 1]
                v_bar[new + width] = v_bar[new + width - 1]
        done += wave


@_compiled()
def warp(height, width, stride, image, flow, warped):
    """warped = image at x + flow, bilinear, the edge repeated outside."""
    field = u64((height + 2) * stride)
    down = u64(stride)
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    for y in range(height):
        row = u64((y + 1) * stride + LANES)
        y_here = np.float32(y)
        for x in range(u64(width)):
            at_x = min(max(np.float32(np.int32(x)) + flow[row + x], ZERO), last_x)
            at_y = min(max(y_here + flow[row + field + x], ZERO), last_y)
            x0, y0 = np.int32(at_x), np.int32(at_y)
            i = u64(y0 + 1) * down + u64(x0 + LANES)
            right = at_x - np.float32(x0)
            upper = image[i] + right * (image[i + NEXT] - image[i])
            lower = image[i + down] + right * (image[i + down + NEXT] - image[i + down])
            warped[row + x] = upper + (at_y - np.float32(y0)) * (lower - upper)


@_compiled()
def repeat_edges(height, width, stride, image):
    """Fill the pixels around a frame with its outermost ones, so that gradients are zero across the edge."""
    for y in range(1, height + 1):
        row = y * stride + LANES
        image[row - 1] = image[row]
        image[row + width] = image[row + width - 1]
    last = height * stride
    for x in range(LANES, LANES + width):
        image[x] = image[stride + x]
        image[last + stride + x] = image[last + x]


@_compiled(pipeline_class=_NoAlias)
def _linearise_row(
    row,
    stride,
    field,
    n,
    y,
    image,
    xs,
    flow,
    warped,
    offset,
    normal_x,
    normal_y,
    limit,
    reach,
    blend,
    per_level,
    last_x,
    last_y,
):
    left, right = row - NEXT, row + NEXT
    up, down = row - stride, row + stride
    row_v = row + field
    for x in range(n):
        residual = warped[row + x] - image[row + x]
        doubt = residual * per_level
        old = HALF * blend / (ONE + doubt * doubt)
        new = HALF - old
        gx = new * (warped[right + x] - warped[left + x]) + old * (image[right + x] - image[left + x])
        gy = new * (warped[down + x] - warped[up + x]) + old * (image[down + x] - image[up + x])
        squared = gx * gx + gy * gy
        inverse = ONE / sqrt(squared + FLOOR)
        nx, ny = gx * inverse, gy * inverse
        u, v = flow[row + x], flow[row_v + x]
        at_x, at_y = xs[x] + u, y + v
        outside = max(max(-at_x, at_x - last_x), max(-at_y, at_y - last_y))
        offset[row + x] = residual * inverse - nx * u - ny * v
        normal_x[row + x] = nx
        normal_y[row + x] = ny
        limit[row + x] = reach * squared * inverse if outside <= ZERO else ZERO


@_compiled()
def linearise(height, width, stride, image, xs, flow, warped, data, reach, blend, per_level):
    """data = the residual linearised at `flow`, as iterations need it; the gradient is central.

    data's fields are offset, nx, ny and limit: at flow (a, b) the residual over the gradient's length is
    offset + nx a + ny b, and a step moves along the normal (nx, ny) by at most `limit` (reach times the
    gradient's length), which is zero where the warp left the frame, since no image data exist there.

    The gradient is a blend of I1's at x + flow and I0's: the average is less noisy, but only the former
    is useful where the frames do not agree (scene cuts, flashes).
    """
    field = (height + 2) * stride
    repeat_edges(height, width, stride, warped)
    for y in range(height):
        _linearise_row(
            u64((y + 1) * stride + LANES),
            u64(stride),
            u64(field),
            u64(width),
            np.float32(y),
            image,
            xs,
            flow,
            warped,
            data[:field],
            data[field : 2 * field],
            data[2 * field : 3 * field],
            data[3 * field :],
            reach,
            blend,
            per_level,
            np.float32(width - 1),
            np.float32(height - 1),
        )
