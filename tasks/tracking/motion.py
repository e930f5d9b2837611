"""What moves unlike the camera, as a detector without training: from TV-L1 flow, and the colours of what it finds.

1. The camera's motion is that of a plane seen by a moving camera, in eight parameters, fitted to the flow so that what
   moves otherwise does not count (iteratively reweighted least squares). What is left is each pixel's own speed.
2. Speeds are averaged along the flow over two frames to each side.
3. Colours that are more common where something moves than elsewhere count for more (after Papazoglou and Ferrari, "Fast
   object segmentation in unconstrained video", ICCV 2013, without their graph cut).
4. A guided filter moves their borders to those of the picture (He, Sun and Tang, "Guided image filtering", ECCV 2010).
5. Otsu's threshold tells what moves from what does not; the boxes of the three largest parts get their share of the
   whole as a score.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from preprocess.flow import tvl1
from tasks.tracking.boxes import Boxes, make_boxes

SIDE = 120  # pixels of the shorter side, on which flow is computed
CHUNK = 250  # pictures that share colours, and are in memory at once
REACH = 2  # frames to each side over which speeds are averaged
STEPS, STRIDE = 12, 6  # of the fit: rounds; pixels from one that counts to the next
LEAST = 0.05  # pixels a frame: errors below it are equal
BRIGHTEST = 99.5  # percentile of a frame's speeds that counts as full speed
UNLIKELY = 0.3  # what a colour counts for that is never seen on what moves
EDGE, EVEN = 6, 20.0  # of the guided filter: its radius in pixels; a variance of colours that is no edge
BLUR = 1.5  # pixels over which colours are judged
PARTS = 3  # boxes a frame


def detect_motion(pictures: Iterable[np.ndarray]) -> Boxes:
    """The boxes of what moves by itself in pictures, (H, W, 3) uint8, with scores between 0 and 1."""
    frames, xywh, scores = [], [], []
    first = 0
    for chunk, scale in _chunks(pictures):
        for frame, moving in enumerate(moving_maps(chunk), start=first):
            for box, share in boxes_of(moving):
                frames.append(frame)
                xywh.append(box * scale)
                scores.append(share)
        first += len(chunk)
    return make_boxes(frames, xywh, scores=scores)


def moving_maps(pictures: np.ndarray) -> np.ndarray:
    """How much each pixel moves by itself, (T, H, W) float32, of small pictures (T, H, W, 3) uint8."""
    import cv2

    if len(pictures) < 2:
        return np.zeros(pictures.shape[:3], np.float32)
    flow = tvl1(np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]))
    speed = np.stack([np.linalg.norm(one - camera_motion(one), axis=-1) for one in flow])
    full = np.percentile(speed, BRIGHTEST, axis=(1, 2), keepdims=True)
    full = np.maximum(np.maximum(full, np.median(full) / 2), 1e-3)  # where little moves, noise must not count as much
    share = np.clip(speed / full, 0, 1)
    moving = along(flow, (np.concatenate([share[:1], share]) + np.concatenate([share, share[-1:]])) / 2)
    moving = (moving * (UNLIKELY + colours_of(pictures, moving))).astype(np.float32)
    edge = {"radius": EDGE, "eps": EVEN}
    return np.stack([cv2.ximgproc.guidedFilter(*one, **edge) for one in zip(pictures, moving, strict=True)])


def camera_motion(flow: np.ndarray) -> np.ndarray:
    """The part of a flow, (H, W, 2), that a moving camera makes of a plane: (H, W, 2)."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * x / width - 1, (2 * y - height) / width
    one, none = np.ones_like(x), np.zeros_like(x)
    across = np.stack([one, x, y, none, none, none, x * x, x * y], axis=-1)
    down = np.stack([none, none, none, one, x, y, x * y, y * y], axis=-1)
    basis = np.stack([across, down], axis=2)  # (H, W, 2, 8)
    sample = basis[::STRIDE, ::STRIDE].reshape(-1, 8).astype(float)
    seen = flow[::STRIDE, ::STRIDE].reshape(-1).astype(float)
    weights = np.ones(len(seen))
    for step in range(STEPS):
        weighted = sample * weights[:, None]
        found = np.linalg.solve(weighted.T @ sample + 1e-6 * np.eye(8), weighted.T @ seen)
        error = np.linalg.norm((sample @ found - seen).reshape(-1, 2), axis=1)
        if step < STEPS // 2:
            weights = 1 / np.maximum(error, LEAST)  # the sum of distances: finds its way from anywhere
        else:
            weights = (1 + (error / max(0.1, 1.48 * np.median(error))) ** 2) ** -2  # Geman and McClure's
        weights = np.repeat(weights, 2)
    return (basis @ found).astype(np.float32)


def along(flow: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The mean of maps, (T, H, W), with those of REACH frames to each side, along a flow (T - 1, H, W, 2)."""
    import cv2

    height, width = maps.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    total, later, earlier = maps.copy(), maps, maps
    for _ in range(REACH):
        # a pixel comes from about where its flow has led it to, counted back from where it is
        steps = [(later[k + 1], x + flow[k, ..., 0], y + flow[k, ..., 1]) for k in range(len(flow))]
        back = [(earlier[k], x - flow[k, ..., 0], y - flow[k, ..., 1]) for k in range(len(flow))]
        fetched, fetched_back = (
            [cv2.remap(*one, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for one in each]
            for each in (steps, back)
        )
        later, earlier = np.stack([*fetched, later[-1]]), np.stack([earlier[0], *fetched_back])
        total = total + later + earlier
    return total / (2 * REACH + 1)


def colours_of(pictures: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """How likely the colours of pictures, (T, H, W, 3) uint8, belong to what moves in them: (T, H, W), as `moving`."""
    import cv2

    lab = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) for picture in pictures]).astype(np.int32)
    colours = ((lab[..., 0] // 24) * 32 + lab[..., 1] // 8) * 32 + lab[..., 2] // 8
    on, off = (np.bincount(colours.ravel(), weights.ravel() ** 2) for weights in (moving, 1 - moving))
    on, off = on / max(on.sum(), 1e-6), off / max(off.sum(), 1e-6)
    likely = (on / (on + off + 1e-6)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(likely[one], (0, 0), BLUR) for one in colours])


def boxes_of(moving: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """The boxes, (4,), of the largest moving parts of a map (H, W), and their shares of all that moves."""
    import cv2

    level = np.clip(moving / max(1e-6, np.percentile(moving, BRIGHTEST)), 0, 1)
    if not moving.any():
        return []
    _, mask = cv2.threshold((255 * level).astype(np.uint8), 0, 1, cv2.THRESH_OTSU)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, places, stats, _ = cv2.connectedComponentsWithStats(mask)
    amounts = np.bincount(places.ravel(), level.ravel(), count)[1:]
    largest = np.argsort(-amounts)[:PARTS]
    return [(stats[1 + part, :4].astype(float), float(amounts[part] / amounts.sum())) for part in largest]


def _chunks(pictures: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Small pictures, at most CHUNK at a time, and what their boxes are to be multiplied by, (4,)."""
    import cv2

    small: list[np.ndarray] = []
    scale = np.ones(4)
    for picture in pictures:
        height, width = picture.shape[:2]
        ratio = min(1.0, SIDE / min(height, width))
        size = max(2, round(width * ratio)), max(2, round(height * ratio))
        scale = np.array([width / size[0], height / size[1]] * 2)
        small.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        if len(small) == CHUNK:
            yield np.stack(small), scale
            small = []
    if small:
        yield np.stack(small), scale
