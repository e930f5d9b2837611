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


def decode_rgb(jpeg: np.ndarray) -> np.ndarray:
    """The inverse of encode_rgb."""
    import cv2

    return cv2.cvtColor(_image(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode_flow(jpeg: np.ndarray) -> np.ndarray:
    """The inverse of encode_flow: (H, W, 2) uint8, still quantised."""
    import cv2

    planes = _image(jpeg, cv2.IMREAD_GRAYSCALE)
    height = len(planes) // 2
    return np.stack([planes[:height], planes[height:]], axis=-1)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


def _image(jpeg: np.ndarray, mode: int) -> np.ndarray:
    import cv2

    image = cv2.imdecode(jpeg, mode) if len(jpeg) else None
    if image is None:
        raise ValueError("a frame of the store is no JPEG: the store is damaged")
    return image
