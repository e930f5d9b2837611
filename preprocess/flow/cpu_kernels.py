"""The steps of TV-L1 as numba kernels that sweep padded rows; `cpu.py` puts them together.

Why it is fast. One sweep down the rows does a whole primal-dual iteration: row y's flow first, then the
dual variables of row y - 1, which needed it. Rows are padded, so that x has no special cases, and begin on
a cache line; the compiler is told that the arrays do not overlap, so that the loop over x becomes plain
vector code (about 0.65 ns a pixel and iteration with AVX-512). On large frames several iterations run down
the rows together, each a row behind the one before, so that rows are still in cache.

Layout: a field has (H + 2) rows of `stride` float32, the frame at rows 1..H and columns LANES..LANES + W. A flat
array holds several fields, row by row: row 0 of each, then row 1 of each. So a sweep reads a few long stretches of
memory, which the processor fetches ahead. Offsets are unsigned, since a signed index costs numba a test for negative
values in every access.
"""

from math import sqrt

import numpy as np

from preprocess.flow.compiling import LANES, compiled, rough_roots, widest_vectors
from preprocess.flow.schedule import FLAT

WAVE = 5  # iterations that sweep the rows together
ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
FLOOR = np.float32(FLAT)
NEXT = np.uint64(1)
ONE32, LANES32 = np.int32(1), np.int32(LANES)
u64 = np.uint64


@compiled(apart=True)
def _iterate_row(
    flow_row,
    row,
    above,
    new,
    old,
    n,
    stride,
    turn,
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
    step,
    dual_step,
):
    """Flow of one row, then the dual variables (ux, uy, vx, vy) of the row above it.

    `dual` and `bars` are the same memory as ux..vy and u_bar, v_bar, but other rows of it are read here than
    are written, so `_NoAlias` holds.
    """
    widest_vectors()
    rough_roots()  # dual variables may come out 0.0004 too long, which the next step mends
    row1 = row + stride
    row2 = row1 + stride
    row3 = row2 + stride
    left0 = row - NEXT
    left2 = row2 - NEXT
    old_v = old + turn
    right = old + NEXT
    right_v = old_v + NEXT
    for x in range(n):
        uy_above = uy[above + x]
        vy_above = vy[above + x]
        u0 = u[flow_row + x]
        v0 = v[flow_row + x]
        a = u0 + step * (dual[row + x] - dual[left0 + x] + dual[row1 + x] - uy_above)
        b = v0 + step * (dual[row2 + x] - dual[left2 + x] + dual[row3 + x] - vy_above)
        limit = data[row3 + x]
        nx = data[row1 + x]
        ny = data[row2 + x]
        move = min(max(data[row + x] + nx * a + ny * b, -limit), limit)
        a -= move * nx
        b -= move * ny
        u[flow_row + x] = a
        v[flow_row + x] = b
        a = TWO * a - u0
        b = TWO * b - v0
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


@compiled()
def iterate(height, width, stride, flow, data, dual, bars, step, dual_step, iterations):
    """Primal-dual iterations, in place on `flow` (u, v) and `dual` (ux, uy, vx, vy).

    `bars` holds two rows of the extrapolated flow for each iteration of a wave.
    """
    widest_vectors()
    rough_roots()
    turn = bars.size // 2
    n = u64((width + LANES - 1) // LANES * LANES)
    u, v = flow, flow[stride:]
    u_bar, v_bar = bars[:turn], bars[turn:]
    ux, uy, vx, vy = dual, dual[stride:], dual[2 * stride :], dual[3 * stride :]
    done = 0
    while done < iterations:
        wave = min(WAVE, iterations - done)
        for front in range(1, height + 1 + wave):
            for k in range(max(0, front - height - 1), min(wave, front)):
                y = front - k
                flow_row, row = 2 * y * stride + LANES, 4 * y * stride + LANES
                new = (2 * k + (y & 1)) * stride + LANES
                old = (2 * k + 1 - (y & 1)) * stride + LANES
                # Row 0's dual variables stay zero: there is no flow above row 1. The row below the last
                # repeats it and stands still: the derivative across the lower edge is zero.
                row_step = step if y <= height else ZERO
                row_dual_step = dual_step if y > 1 else ZERO
                if y > height:
                    for x in range(width):
                        u[flow_row + x] = u_bar[old + x]
                        v[flow_row + x] = v_bar[old + x]
                _iterate_row(
                    u64(flow_row),
                    u64(row),
                    u64(row - 4 * stride),
                    u64(new),
                    u64(old),
                    n,
                    u64(stride),
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


@compiled(apart=True)
def _warp(height, width, stride, image, xs, u, v, warped):
    widest_vectors()
    down, stride32, n = u64(stride), np.int32(stride), u64(width)
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    for y in range(height):
        row, flow_row = u64((y + 1) * stride + LANES), u64((y + 1) * 2 * stride + LANES)
        y_here = np.float32(y)
        for x in range(n):
            at_x = min(max(xs[x] + u[flow_row + x], ZERO), last_x)
            at_y = min(max(y_here + v[flow_row + x], ZERO), last_y)
            x0, y0 = np.int32(at_x), np.int32(at_y)  # 32 bits: the processor gathers by such offsets
            i = u64(np.int32((y0 + ONE32) * stride32 + x0 + LANES32))
            right = at_x - np.float32(x0)
            upper = image[i] + right * (image[i + NEXT] - image[i])
            lower = image[i + down] + right * (image[i + down + NEXT] - image[i + down])
            warped[row + x] = upper + (at_y - np.float32(y0)) * (lower - upper)


@compiled()
def warp(height, width, stride, image, xs, flow, warped):
    """warped = image at x + flow, bilinear, the edge repeated outside."""
    _warp(height, width, stride, image, xs, flow, flow[stride:], warped)


@compiled()
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


@compiled(apart=True)
def _linearise(
    height, width, stride, image, xs, u, v, warped, offset, normal_x, normal_y, limit, reach, blend, per_level
):
    n, pitch = u64(width), u64(stride)
    last_x, last_y = np.float32(width - 1), np.float32(height - 1)
    for y in range(height):
        row, flow_row = u64((y + 1) * stride + LANES), u64((y + 1) * 2 * stride + LANES)
        data_row = u64((y + 1) * 4 * stride + LANES)
        left, right = row - NEXT, row + NEXT
        up, down = row - pitch, row + pitch
        y_here = np.float32(y)
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
            u_here, v_here = u[flow_row + x], v[flow_row + x]
            at_x, at_y = xs[x] + u_here, y_here + v_here
            outside = max(max(-at_x, at_x - last_x), max(-at_y, at_y - last_y))
            offset[data_row + x] = residual * inverse - nx * u_here - ny * v_here
            normal_x[data_row + x] = nx
            normal_y[data_row + x] = ny
            limit[data_row + x] = reach * squared * inverse if outside <= ZERO else ZERO


@compiled()
def linearise(height, width, stride, image, xs, flow, warped, data, reach, blend, per_level):
    """data = the residual linearised at `flow`, as iterations need it; the gradient is central.

    data's fields are offset, nx, ny and limit: at flow (a, b) the residual over the gradient's length is
    offset + nx a + ny b, and a step moves along the normal (nx, ny) by at most `limit` (reach times the
    gradient's length), which is zero where the warp left the frame, since no image data exist there.

    The gradient is a blend of I1's at x + flow and I0's: the average is less noisy, but only the former
    is useful where the frames do not agree (scene cuts, flashes).
    """
    repeat_edges(height, width, stride, warped)
    _linearise(
        height,
        width,
        stride,
        image,
        xs,
        flow,
        flow[stride:],
        warped,
        data,
        data[stride:],
        data[2 * stride :],
        data[3 * stride :],
        reach,
        blend,
        per_level,
    )
