"""TV-L1 optical flow.

C. Zach, T. Pock and H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007.
"""

import numpy as np


def tvl1(frames: np.ndarray) -> np.ndarray:
    """Flow between neighbouring frames.

    frames: (T, H, W) uint8, grey. Returns (T - 1, H, W, 2) float32: how far what is seen at a pixel of frame k
    has moved in frame k + 1, in pixels, x (to the right) then y (down).
    """
    import cv2

    height, width = frames.shape[1:]
    flow = np.zeros((max(0, len(frames) - 1), height, width, 2), np.float32)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()  # new each time: it keeps state between calls
    for k in range(len(flow)):
        solver.calc(frames[k], frames[k + 1], flow[k])
    return flow
