"""Limits for videos, and the error for a file that cannot be used."""

from dataclasses import dataclass


class Unusable(Exception):
    """A file that cannot be used as a video. The message is the reason that the store lists.

    It begins with one of: corrupt, no video, not media, encrypted, unreadable, too short, too long, too large.
    """


@dataclass(frozen=True)
class Limits:
    """Limits for videos. Others are rejected, with a reason that names the limit."""

    min_seconds: float = 0.0
    """shorter videos are rejected"""
    max_seconds: float = 43_200.0
    """longer videos are rejected: by default 12 hours"""
    max_frames: int = 2_000_000
    """videos of more frames are rejected, however short they are"""
    max_pixels: int = 40_000_000
    """videos with larger frames are rejected, before one is held in memory: 8K has 33 million"""
    sound_only: bool = False
    """take files of sound alone too, as videos without pictures; otherwise they are rejected"""

    def check_frame(self, width: int, height: int) -> None:
        """Raise Unusable for a frame with too many pixels."""
        if width * height > self.max_pixels:
            raise Unusable(f"too large: {width}×{height} pixels, more than --max-pixels {self.max_pixels}")

    def check_length(self, *, seconds: float, frames: int) -> None:
        """Raise Unusable as soon as a video is too long."""
        if seconds > self.max_seconds:
            raise Unusable(f"too long: longer than --max-seconds {self.max_seconds:g}")
        if frames > self.max_frames:
            raise Unusable(f"too long: more than --max-frames {self.max_frames}")

    def check_whole(self, *, seconds: float, cut_from: float | None) -> None:
        """Raise Unusable for a complete video that is too short; `cut_from` is a truncated one's expected length."""
        if seconds < self.min_seconds:
            what = f"{seconds:.2f} s" if cut_from is None else f"truncated, {seconds:.2f} s of {cut_from:.2f} s"
            raise Unusable(f"too short: {what}, --min-seconds asks for {self.min_seconds:g} s")
