"""The video with its tracks drawn on it, as a film to look at."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tasks.tracking.boxes import Boxes
from tasks.tracking.film import write_film
from tasks.tracking.video import VideoFile

COLOURS = [
    (230, 60, 60),
    (60, 150, 240),
    (60, 190, 90),
    (240, 170, 30),
    (170, 90, 220),
    (30, 190, 200),
    (240, 110, 180),
]


def write_drawn(path: Path, video: VideoFile, tracks: Boxes, *, names: Mapping[int, str]) -> None:
    """Write the video with boxes, numbers, and what each track is called, as an MP4 with its sound."""
    pictures = _drawn(video, tracks, names)
    write_film(path, pictures, file=str(video.path), start=video.start, first=0, rate=video.rate)


def draw(picture: np.ndarray, boxes: Boxes, names: Mapping[int, str]) -> np.ndarray:
    """A copy of a picture, (H, W, 3) uint8, with the boxes of one frame."""
    import cv2

    drawn = np.ascontiguousarray(picture).copy()
    size = min(drawn.shape[:2]) / 720
    thick = max(1, round(3 * size))
    for number, box in zip(boxes.ids.tolist(), boxes.xywh.round().astype(int).tolist(), strict=True):
        left, top, width, height = box
        colour = COLOURS[number % len(COLOURS)]
        cv2.rectangle(drawn, (left, top), (left + width, top + height), colour, thick)
        text = f"{number} {names.get(number, '')}".strip()
        place = left, max(top - thick - 1, round(24 * size))
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, max(0.35, size), colour, thick, cv2.LINE_AA)
    return drawn


def _drawn(video: VideoFile, tracks: Boxes, names: Mapping[int, str]) -> Iterator[np.ndarray]:
    for frame, picture in enumerate(video.pictures(bar="film")):
        yield draw(picture, tracks.at(frame), names)
