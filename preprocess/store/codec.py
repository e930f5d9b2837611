"""Encoding of the stored data: flow as 8 bits with an exact zero, every frame a JPEG, sound as log-mel."""

import numpy as np

from preprocess.store.format import FLOW_BOUND, FLOW_STEPS, FLOW_ZERO

RGB_QUALITY = 90
FLOW_QUALITY = 97
FRAME_HEADERS = (0xC0, 0xC1, 0xC2)  # JPEG markers that are followed by a picture's size
BEFORE_FRAME = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))  # may precede it: tables, comments, application data


def quantise_flow(flow: np.ndarray, *, bound: float = FLOW_BOUND) -> np.ndarray:
    """flow: (..., 2) float32, pixels a frame → uint8, ``round(128 + v * 127 / bound)``, clipped at ±bound."""
    scaled = flow * (FLOW_STEPS / bound)  # the rest in place: fresh memory costs more than arithmetic
    np.clip(np.rint(scaled, out=scaled), -FLOW_STEPS, FLOW_STEPS, out=scaled)
    scaled += FLOW_ZERO
    return scaled.astype(np.uint8)


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


def decode_rgb(jpeg: np.ndarray) -> np.ndarray:
    """The inverse of encode_rgb, for a JPEG that `check_jpegs` has accepted.

    Raises ValueError if it cannot be decoded.
    """
    return _image(jpeg, "RGB")


def decode_flow(jpeg: np.ndarray) -> np.ndarray:
    """The inverse of encode_flow, for such a JPEG: (2, H, W) uint8, still quantised, x before y.

    Raises ValueError if it cannot be decoded.
    """
    planes = _image(jpeg, "GRAY")[..., 0]
    return planes.reshape(2, len(planes) // 2, -1)


def check_jpegs(data: np.ndarray, ends: np.ndarray, size: tuple[int, int]) -> None:
    """Check, by their headers alone, that the frames between `ends` (T + 1,) in `data` are JPEGs of `size`, (H, W).

    A forged header would make a decoder allocate gigabytes. One encoder wrote all headers of a stream, so they have the
    layout of the first. Raises ValueError for any other frame.
    """
    begins = ends[:-1]
    places = _header_places(data[begins[0] : ends[1]])
    if places is None or np.diff(ends).min() <= places[-1]:
        raise ValueError("a frame is no JPEG")
    headers = data[begins[:, None] + places]
    height, width = (int(number) for number in headers[0, -4:].reshape(2, 2) @ (256, 1))
    if (height, width) != size or (headers != headers[0]).any():
        raise ValueError(f"a frame is no JPEG of {size[1]}×{size[0]} pixels")


def _header_places(jpeg: np.ndarray) -> np.ndarray | None:
    """Offsets of a JPEG's markers and their lengths, up to the picture's size, which is last (ITU T.81, B.2.2)."""
    data = jpeg[:4096].tobytes()
    places, at = [0, 1], 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        places += range(at, at + 4)
        if data[at + 1] in FRAME_HEADERS:
            return np.array([*places, *range(at + 5, at + 9)])
        if data[at + 1] not in BEFORE_FRAME:  # a decoder might skip another number of bytes for it
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    # Huffman tables of each image's own would save 7 % of a store, and take as long again as all the rest
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


def _image(jpeg: np.ndarray, colours: str) -> np.ndarray:
    import simplejpeg  # 7 % faster than OpenCV, mostly since it repeats the pixels of colour planes

    try:
        return simplejpeg.decode_jpeg(jpeg, colours, fastupsample=True)
    except ValueError as error:
        raise ValueError("a frame cannot be decoded") from error
