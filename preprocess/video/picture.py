"""Pictures for the store: upright, square pixels, colours of an SDR screen, all of one size."""

import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter

from preprocess.video.limits import Unusable

WIDEST_ASPECT = 16  # frames thinner than 16:1 cannot be cropped to a useful picture
UNSPECIFIED = 2  # of AVColorSpace and AVColorPrimaries
SDR = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG


@dataclass(frozen=True)
class Orientation:
    """The pixel at (x, y) is shown at (x, y), or at (y, x) if transposed, then flipped."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """By the display matrix [a b; c d] of a frame, which moves (x, y) to (a x + c y, b x + d y).

        Any other angle than quarters of a turn is rounded; a matrix of zeros says nothing.
        """
        data = frame.side_data.get(Type.DISPLAYMATRIX)
        if data is None:
            return cls()
        a, b, _, c, d = struct.unpack("5i", bytes(data)[:20])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def is_mirrored(self) -> bool:
        return self.transposed ^ self.flipped_x ^ self.flipped_y

    @property
    def degrees(self) -> int:
        """The angle by which a picture is turned before it is mirrored: counterclockwise, from -180 to 90."""
        if self.transposed:
            return 90 if self.flipped_y else -90
        return -180 if self.flipped_y else 0

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) → the same upright."""
        pixels = pixels.swapaxes(0, 1) if self.transposed else pixels
        return pixels[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]


class PictureScaler:
    """Scales frames to the size of the first one, with its shorter side as in the settings.

    A later frame of another shape, as in a broadcast, is fitted into that size, with black beside it.
    """

    def __init__(self, *, short_side: int) -> None:
        self.size: tuple[int, int] | None = None  # (H, W) of all pictures
        self.source: dict[str, int] = {}  # description of the first frame
        self.has_new_shape = False  # True if a later frame has another shape
        self.is_hdr = False
        self._short_side = short_side
        self._shape: tuple[Fraction, Fraction] | None = None
        self._scaler = VideoReformatter()  # one for all frames: creating it costs more than scaling a small frame

    def describe(self, frame: av.VideoFrame, aspect: Fraction) -> None:
        """Set the size by the first frame; `aspect` is the width of a pixel by its height.

        Raises Unusable for a strip.
        """
        orientation = Orientation.of(frame)
        width, height = self._shape = _upright(frame, aspect, orientation)
        if max(width, height) > WIDEST_ASPECT * min(width, height):
            raise Unusable(
                f"no video: a strip of {round(width)}×{round(height)} pixels, thinner than {WIDEST_ASPECT}:1"
            )
        scale = self._short_side / min(width, height)
        self.size = (max(1, round(height * scale)), max(1, round(width * scale)))
        self.source = {"width": round(width), "height": round(height), "rotation": orientation.degrees}
        if orientation.is_mirrored:
            self.source["mirrored"] = 1

    def scale(self, frame: av.VideoFrame, aspect: Fraction) -> np.ndarray:
        """The picture: (H, W, 3) uint8."""
        assert self.size is not None and self._shape is not None
        orientation = Orientation.of(frame)
        shape = _upright(frame, aspect, orientation)
        size = self.size
        if shape != self._shape:
            fit = min(size[0] / shape[1], size[1] / shape[0])
            size = (max(1, round(shape[1] * fit)), max(1, round(shape[0] * fit)))
        height, width = size[::-1] if orientation.transposed else size
        pixels = orientation.apply(self._rgb(frame, width=width, height=height))
        if size == self.size:
            return np.ascontiguousarray(pixels)
        self.has_new_shape = True
        picture = np.zeros((*self.size, 3), np.uint8)
        top, left = (self.size[0] - size[0]) // 2, (self.size[1] - size[1]) // 2
        picture[top : top + size[0], left : left + size[1]] = pixels
        return picture

    def _rgb(self, frame: av.VideoFrame, *, width: int, height: int) -> np.ndarray:
        # AREA averages all pixels that fall into one; enlarging needs a smooth kernel instead
        kernel = "AREA" if height <= frame.height and width <= frame.width else "BICUBIC"
        colours = {}
        if frame.color_trc in HDR:
            self.is_hdr = True
            colours |= SDR
            if frame.color_primaries == UNSPECIFIED:
                frame.color_primaries = ColorPrimaries.BT2020
            if frame.colorspace == UNSPECIFIED:
                colours["src_colorspace"] = Colorspace.BT2020
        elif frame.colorspace == UNSPECIFIED and (frame.width >= 1280 or frame.height > 576):
            colours["src_colorspace"] = Colorspace.ITU709  # as players guess; SD is BT.601
        form = {"width": width, "height": height, "format": "rgb24", "interpolation": kernel}
        # one thread: worker processes run in parallel, and where memory is short others cannot be started
        return self._scaler.reformat(frame, **form, **colours, threads=1).to_ndarray()


def _upright(frame: av.VideoFrame, aspect: Fraction, orientation: Orientation) -> tuple[Fraction, Fraction]:
    """Width and height, in square pixels."""
    width, height = frame.width * aspect, Fraction(frame.height)
    return (height, width) if orientation.transposed else (width, height)
