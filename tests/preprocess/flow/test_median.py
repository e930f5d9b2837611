"""The median between two warps, held against OpenCV's; what the compiler is told."""

from functools import partial

import cv2
import numpy as np
from numba import njit

from preprocess.flow.compiling import widest_vectors
from preprocess.flow.cpu import _Level
from preprocess.flow.cpu_median import median
from preprocess.flow.schedule import MEDIAN
from tests.support.cases import case


def test_the_median_is_opencvs_to_the_last_bit():
    for size in ((2, 2), (2, 40), (3, 5), (17, 16), (33, 31), (48, 171)):
        with case(size):
            rng = np.random.default_rng(0)
            level = _Level(*size)
            for draw in (rng.normal, partial(rng.integers, -2, 3)):  # all different, and many alike
                level.spare.fill(np.nan)  # nothing of an earlier pair may show
                for component in level.components:
                    component[:] = draw(size=size)
                expected = [cv2.medianBlur(component.copy(), MEDIAN) for component in level.components]
                median(*level.shape, level.flow, level.columns, level.spare)
                level.flow, level.spare = level.spare, level.flow
                for ours, theirs in zip(level.components, expected, strict=True):
                    np.testing.assert_array_equal(ours, theirs)


def test_the_compiler_is_told_to_use_the_widest_vectors_in_that_kernel_alone():
    def double(values):
        for x in range(values.size):
            values[x] *= np.float32(2)

    def double_widely(values):
        widest_vectors()
        for x in range(values.size):
            values[x] *= np.float32(2)

    texts = []
    for function in (double, double_widely):
        kernel = njit(function)
        kernel(np.ones(4, np.float32))
        texts.append(kernel.inspect_llvm(kernel.signatures[0]))
    assert ['"prefer-vector-width"="512"' in text for text in texts] == [False, True]
