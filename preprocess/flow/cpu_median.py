"""The 5×5 median of a flow as a numba kernel: the step between two warps (Wedel et al. 2009).

Each column of five is sorted once and serves five windows. What is left for a window is a network of minima and maxima,
without branches, so that the loop over x becomes plain vector code; OpenCV's median takes four times as long.
"""

import numpy as np

from preprocess.flow.compiling import LANES, compiled, widest_vectors
from preprocess.flow.schedule import MEDIAN

REACH = MEDIAN // 2  # pixels from a window's middle to its edge
u64 = np.uint64
INSIDE = np.uint64(LANES)
LEFT, LEFT1, LEFT3, LEFT4 = (np.uint64(LANES + offset) for offset in (-2, -1, 1, 2))


@compiled()
def _sort(a, b):
    return min(a, b), max(a, b)


@compiled()
def _sort_five(a, b, c, d, e):
    a, b = _sort(a, b)
    d, e = _sort(d, e)
    c, e = _sort(c, e)
    c, d = _sort(c, d)
    b, e = _sort(b, e)
    a, d = _sort(a, d)
    a, c = _sort(a, c)
    b, d = _sort(b, d)
    b, c = _sort(b, c)
    return a, b, c, d, e


@compiled(apart=True)
def _medians(height, width, stride, flow, lowest, lower, middle, higher, highest, out):
    """out = the medians of one component, whose rows lie 2 strides apart.

    Sorting the rows as well leaves 13 values that can be the median, for six are surely below these and six above. The
    exchanges after that were found by search, and proved by all 7,776 ways in which sorted columns hold zeros and ones
    (Knuth's zero-one principle).
    """
    widest_vectors()
    n = u64((width + LANES - 1) // LANES * LANES)
    first, last = LANES, LANES + width - 1
    for y in range(height):
        row = u64((1 + y) * 2 * stride + LANES)
        row0 = u64((1 + max(y - 2, 0)) * 2 * stride + LANES)
        row1 = u64((1 + max(y - 1, 0)) * 2 * stride + LANES)
        row3 = u64((1 + min(y + 1, height - 1)) * 2 * stride + LANES)
        row4 = u64((1 + min(y + 2, height - 1)) * 2 * stride + LANES)
        for x in range(n):
            a, b, c, d, e = _sort_five(flow[row0 + x], flow[row1 + x], flow[row + x], flow[row3 + x], flow[row4 + x])
            lowest[INSIDE + x], lower[INSIDE + x], middle[INSIDE + x] = a, b, c
            higher[INSIDE + x], highest[INSIDE + x] = d, e
        for beside in range(1, REACH + 1):
            lowest[first - beside], lowest[last + beside] = lowest[first], lowest[last]
            lower[first - beside], lower[last + beside] = lower[first], lower[last]
            middle[first - beside], middle[last + beside] = middle[first], middle[last]
            higher[first - beside], higher[last + beside] = higher[first], higher[last]
            highest[first - beside], highest[last + beside] = highest[first], highest[last]
        for x in range(n):
            x0, x1, x2, x3, x4 = LEFT + x, LEFT1 + x, INSIDE + x, LEFT3 + x, LEFT4 + x
            _, _, _, a3, a4 = _sort_five(lowest[x0], lowest[x1], lowest[x2], lowest[x3], lowest[x4])
            _, _, b2, b3, b4 = _sort_five(lower[x0], lower[x1], lower[x2], lower[x3], lower[x4])
            _, c1, c2, c3, _ = _sort_five(middle[x0], middle[x1], middle[x2], middle[x3], middle[x4])
            d0, d1, d2, _, _ = _sort_five(higher[x0], higher[x1], higher[x2], higher[x3], higher[x4])
            e0, e1, _, _, _ = _sort_five(highest[x0], highest[x1], highest[x2], highest[x3], highest[x4])
            a3, b2 = _sort(a3, b2)
            d0 = max(a3, d0)
            d2, e0 = _sort(d2, e0)
            c3 = min(c3, e0)
            b2, d2 = _sort(b2, d2)
            b2, d0 = _sort(b2, d0)
            c1 = max(b2, c1)
            d1, c3 = _sort(d1, c3)
            d2 = min(d2, c3)
            d1, c2 = _sort(d1, c2)
            d1, d0 = _sort(d1, d0)
            d1, c1 = _sort(d1, c1)
            a4 = max(d1, a4)
            d2, a4 = _sort(d2, a4)
            c2 = min(c2, a4)
            d2, c2 = _sort(d2, c2)
            c1 = max(d2, c1)
            c2 = min(c2, e1)
            c2, d0 = _sort(c2, d0)
            c2, c1 = _sort(c2, c1)
            b3 = max(c2, b3)
            d0 = min(d0, b3)
            d0, c1 = _sort(d0, c1)
            b4 = max(d0, b4)
            c1 = min(c1, b4)
            out[row + x] = c1


@compiled()
def median(height, width, stride, flow, columns, out):
    """out = the 5×5 median of both components of `flow`, the edge repeated outside.

    Fields are laid out as in `cpu_kernels.py`; `columns` has room for five rows.
    """
    lowest, lower, middle = columns[:stride], columns[stride : 2 * stride], columns[2 * stride : 3 * stride]
    higher, highest = columns[3 * stride : 4 * stride], columns[4 * stride :]
    for at in (0, stride):
        _medians(height, width, stride, flow[at:], lowest, lower, middle, higher, highest, out[at:])
