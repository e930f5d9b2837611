"""Cutting, turning, scaling and flipping: one affine map a clip, the same for all of its frames."""

import numpy as np

EVAL_SHARE = 7 / 8  # of the short side: 112 of 128 pixels, at their own scale
SCALE = (0.65, 1.0)  # share of the short side that a training crop shows
STRETCH = 1.15  # widest change of a training crop's aspect
TURN = 8.0  # degrees, to either side


def centre_crop(height: int, width: int, size: int) -> np.ndarray:
    """The (2, 3) matrix that maps frame pixels (x, y, 1) to pixels of a `size` × `size` crop of the middle."""
    return _matrix(height, width, size, side=EVAL_SHARE * min(height, width))


def random_crop(height: int, width: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Such a matrix with random place, scale, aspect, small rotation, and half of the time a flip left to right."""
    side = min(height, width) * rng.uniform(*SCALE)
    room = np.maximum(0.0, (np.array([width, height]) - side) / 2)
    return _matrix(
        height,
        width,
        size,
        side=side,
        shift=rng.uniform(-room, room),
        stretch=STRETCH ** rng.uniform(-0.5, 0.5),
        turn=np.deg2rad(rng.uniform(-TURN, TURN)),
        flip=bool(rng.integers(2)),
    )


def warp(frames: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """frames: (T, H, W, C) → (T, size, size, C), every frame through the same map; beyond its edge it is mirrored."""
    import cv2

    warped = [
        cv2.warpAffine(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for frame in frames
    ]
    return np.stack(warped)


def warp_flow(flow: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """flow: (T, H, W, 2), pixels a frame → (T, size, size, 2), in pixels of the crop.

    Vectors go through the linear part of the map like the places they stand at: a flip negates x, a zoom makes
    motion faster, a rotation turns it.
    """
    return warp(flow, matrix, size) @ matrix[:, :2].T.astype(np.float32)


def _matrix(
    height: int,
    width: int,
    size: int,
    *,
    side: float,
    shift: np.ndarray | tuple[float, float] = (0.0, 0.0),
    stretch: float = 1.0,
    turn: float = 0.0,
    flip: bool = False,
) -> np.ndarray:
    scale = size / side
    stretched = np.diag([scale * stretch * (-1 if flip else 1), scale / stretch])
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = stretched @ turned
    centre = np.array([(width - 1) / 2, (height - 1) / 2]) + shift
    offset = (size - 1) / 2 - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)
