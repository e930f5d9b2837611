"""How things lie in the store: flow as 8 bit with an exact zero, every frame a JPEG, sound as log-mel."""

import numpy as np

RGB_QUALITY = 90
FLOW_QUALITY = 97
FLOW_BOUND = 20.0  # pixels a frame; faster motion is clipped
FLOW_ZERO = 128  # the byte that means no motion
FLOW_STEPS = 127  # bytes from no motion to the bound
MEL_RATE = 100  # log-mel rows a second: a 10 ms hop, four rows a frame at 25 fps
MEL_FLOOR = 1e-6  # power added before the logarithm
SILENCE = float(np.log(MEL_FLOOR))
FRAME_HEADERS = (0xC0, 0xC1, 0xC2)  # JPEG markers that are followed by a picture's size
BEFORE_FRAME = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # that may come before: tables, comments, applications'


def quantise_flow(flow: np.ndarray, *, bound: float = FLOW_BOUND) -> np.ndarray:
    """flow: (..., 2) float32, pixels a frame → uint8, ``round(128 + v * 127 / bound)``, clipped at ±bound."""
    scaled = np.rint(np.clip(flow, -bound, bound) * (FLOW_STEPS / bound))
    return (scaled + FLOW_ZERO).astype(np.uint8)


def dequantise_flow(code: np.ndarray, *, bound: float = FLOW_BOUND) -> np.ndarray:
    """The inverse of quantise_flow: uint8 → float32, pixels a frame."""
    return (code.astype(np.float32) - FLOW_ZERO) * np.float32(bound / FLOW_STEPS)


def encode_rgb(rgb: np.ndarray) -> np.ndarray:
    """rgb: (H, W, 3) uint8 → (N,) uint8, a JPEG."""
    import cv2

    return _jpeg(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), RGB_QUALITY)


def encode_flow(code: np.ndarray) -> np.ndarray:
    """code: (H, W, 2) uint8 from quantise_flow → (N,) uint8, a grey JPEG with x above y."""
    return _jpeg(np.concatenate([code[..., 0], code[..., 1]]), FLOW_QUALITY)


def decode_rgb(jpeg: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """The inverse of encode_rgb, for a frame of that (H, W).

    Raises ValueError if it is no JPEG of that size; nothing is decoded then.
    """
    import cv2

    return cv2.cvtColor(_image(jpeg, cv2.IMREAD_COLOR, size), cv2.COLOR_BGR2RGB)


def decode_flow(jpeg: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """The inverse of encode_flow, for a frame of that (H, W): (H, W, 2) uint8, still quantised.

    Raises ValueError if it is no JPEG of that size; nothing is decoded then.
    """
    import cv2

    height, width = size
    planes = _image(jpeg, cv2.IMREAD_GRAYSCALE, (2 * height, width))
    return np.stack([planes[:height], planes[height:]], axis=-1)


def jpeg_size(jpeg: np.ndarray) -> tuple[int, int] | None:
    """(height, width) that a JPEG's header tells (ITU T.81, B.2.2); None if it is no JPEG.

    Any marker that a decoder might step over by another number of bytes ends the search: it could hide a second header.
    """
    data = jpeg[:4096].tobytes()
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in FRAME_HEADERS:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        if data[at + 1] not in BEFORE_FRAME:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def frame_count(seconds: float) -> int:
    """How many mel frames a video of this length has."""
    return round(seconds * MEL_RATE)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


def _image(jpeg: np.ndarray, mode: int, size: tuple[int, int]) -> np.ndarray:
    import cv2

    if jpeg_size(jpeg) != size:  # also keeps a forged header from making OpenCV allocate gigabytes
        raise ValueError(f"a frame is no JPEG of {size[1]}×{size[0]} pixels")
    image = cv2.imdecode(jpeg, mode)
    if image is None or image.shape[:2] != size:  # an orientation in its headers turns it
        raise ValueError("a frame cannot be decoded")
    return image
