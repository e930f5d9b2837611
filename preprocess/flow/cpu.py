"""TV-L1 on one CPU core. The method is in `schedule.py`; kernels and memory layout are in `cpu_kernels.py`."""

import cv2
import numpy as np

from preprocess.flow.compiling import LANES
from preprocess.flow.cpu_kernels import WAVE, iterate, linearise, repeat_edges, warp
from preprocess.flow.cpu_median import median
from preprocess.flow.schedule import MEDIAN, Settings


class _Level:
    """Working memory of one level of the pyramid."""

    def __init__(self, height: int, width: int):
        self.size = (width, height)  # OpenCV's order
        self.stride = -(-width // LANES) * LANES + 2 * LANES
        self.shape = (height, width, self.stride)
        self.flow, self.data, self.dual = self._fields(2), self._fields(4), self._fields(4)
        self.images, self.warped = [self._fields(1), self._fields(1)], self._fields(1)
        self.bars = np.zeros(4 * WAVE * self.stride, np.float32)
        self.xs = np.arange(width, dtype=np.float32)
        self.spare, self.columns = self._fields(2), np.zeros(MEDIAN * self.stride, np.float32)

    def _fields(self, count: int) -> np.ndarray:
        height, _, stride = self.shape
        size = count * (height + 2) * stride
        memory = np.zeros(size + LANES, np.float32)
        start = -memory.ctypes.data // memory.itemsize % LANES  # values to the next cache line
        return memory[start : start + size]

    @property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """The flow so far, x and y: (H, W) float32."""
        return self._inside(self.flow, 0), self._inside(self.flow, 1)

    def _inside(self, fields: np.ndarray, index: int) -> np.ndarray:
        height, width, stride = self.shape
        return fields.reshape(height + 2, -1, stride)[1:-1, index, LANES : LANES + width]

    def set_image(self, which: int, image: np.ndarray) -> None:
        self._inside(self.images[which], 0)[:] = image
        repeat_edges(*self.shape, self.images[which])

    def start_from(self, coarser: "_Level | None") -> None:
        """Start with the flow of the next coarser level and dual variables of zero."""
        self.dual.fill(0)
        if coarser is None:
            self.flow.fill(0)
        else:
            for axis, ratio in enumerate(np.divide(self.size, coarser.size, dtype=np.float32)):
                finer = cv2.resize(coarser.components[axis], self.size, interpolation=cv2.INTER_LINEAR)
                np.multiply(finer, ratio, out=self.components[axis])

    def solve(self, first: int, warps: int, iterations: int, settings: Settings) -> None:
        """Improve the flow from images[first] to the other one."""
        step, dual_step = np.float32(settings.step), np.float32(settings.dual_step)
        reach = np.float32(settings.attachment * settings.step)
        blend, per_level = np.float32(settings.blend), np.float32(1 / settings.agreement)
        for _ in range(warps):
            warp(*self.shape, self.images[1 - first], self.xs, self.flow, self.warped)
            linearise(
                *self.shape, self.images[first], self.xs, self.flow, self.warped, self.data, reach, blend, per_level
            )
            iterate(*self.shape, self.flow, self.data, self.dual, self.bars, step, dual_step, iterations)
            median(*self.shape, self.flow, self.columns, self.spare)
            self.flow, self.spare = self.spare, self.flow


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (5, 5), sigma, borderType=cv2.BORDER_REPLICATE)


def solve(frames: np.ndarray, settings: Settings) -> np.ndarray:
    """Flow of each frame to the next; (T, H, W) uint8 -> (T - 1, H, W, 2) float32, pixels, x then y.

    One thread. Releases the GIL, so that several videos can be solved in threads.
    """
    count, height, width = frames.shape
    levels = [_Level(*size) for size in settings.sizes(height, width)]

    def load(which: int, frame: np.ndarray) -> None:
        image = _blur(np.ascontiguousarray(frame).astype(np.float32), settings.denoise)
        for level in levels:
            if level is not levels[0]:
                image = cv2.resize(_blur(image, settings.antialias), level.size, interpolation=cv2.INTER_LINEAR)
            level.set_image(which, image)

    flows = np.zeros((count - 1, height, width, 2), np.float32)
    loaded = None  # index of the frame whose pyramid is in images[first]
    first = 0
    for t in range(count - 1):
        if np.array_equal(frames[t], frames[t + 1]):
            continue
        if loaded != t:
            load(first, frames[t])
        load(1 - first, frames[t + 1])
        coarser = None
        for index in reversed(range(len(levels))):
            levels[index].start_from(coarser)
            levels[index].solve(first, *settings.passes_at(index), settings)
            coarser = levels[index]
        flows[t, ..., 0], flows[t, ..., 1] = coarser.components
        first, loaded = 1 - first, t + 1
    return flows
