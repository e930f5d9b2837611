"""Tracks cut out of their video: each as a small video of its own, with the sound of that time, for a model to answer.

The window is a square of one size for the whole clip, whose centre follows the box smoothly, so that the flow in it is
the motion of the parts, and not of the detector's trembling.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.common.files import write_aside
from preprocess.store.codec import decode_rgb, encode_rgb
from tasks.tracking.boxes import Boxes
from tasks.tracking.film import write_film
from tasks.tracking.video import VideoFile

LONGEST = 60.0  # seconds; a longer track gives several clips
SHORTEST = 0.4  # seconds; a shorter track gives none
MARGIN = 1.25  # the window's side, in sides of the box
LARGEST = 95  # percentile of the sizes in a clip, for which its window is made
SMOOTH = 0.5  # seconds over which the centre is averaged
SIDE = 256  # pixels of a clip at most; a smaller window is not enlarged
SMALLEST = 64  # pixels of a clip at least: a smaller window is


@dataclass(frozen=True)
class Clip:
    """One track, or a part of a long one, as a small video."""

    file: Path
    track: int
    label: str  # what the detector calls it, or nothing
    start: float  # seconds of the video
    end: float


@dataclass(frozen=True)
class Window:
    """The square window that follows a track from frame `first` on."""

    track: int
    label: str
    first: int
    centres: np.ndarray  # (T, 2) pixels
    side: int

    @property
    def last(self) -> int:
        return self.first + len(self.centres) - 1

    def cut(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """The window of a picture, (H, W, 3) uint8, scaled; outside the picture its edge goes on."""
        import cv2

        across, down = (self.centres[frame - self.first] - self.side / 2).round().astype(int)
        rows = np.arange(down, down + self.side).clip(0, picture.shape[0] - 1)
        columns = np.arange(across, across + self.side).clip(0, picture.shape[1] - 1)
        side = min(SIDE, max(SMALLEST, self.side)) // 2 * 2
        return cv2.resize(picture[rows[:, None], columns[None]], (side, side), interpolation=cv2.INTER_AREA)


def cut_clips(folder: Path, video: VideoFile, tracks: Boxes) -> list[Clip]:
    """Write a clip of each track into a folder that is there, in one pass over the video; by their beginnings."""
    coming = sorted(windows_of(tracks, fps=video.fps), key=lambda window: -window.first)
    open_: list[tuple[Window, list[np.ndarray]]] = []
    clips: list[Clip] = []
    start, frame = video.start, -1
    for frame, picture in enumerate(video.pictures(bar="clips")):
        while coming and coming[-1].first <= frame:
            open_.append((coming.pop(), []))
        for window, kept in open_:
            kept.append(encode_rgb(window.cut(picture, frame)))
        for window, kept in [one for one in open_ if one[0].last <= frame]:
            clips.append(_write(folder, video, window, kept, start))
        open_ = [one for one in open_ if one[0].last > frame]
    clips += [_write(folder, video, window, kept, start) for window, kept in open_]  # the video ended before them
    return sorted(clips, key=lambda clip: (clip.start, clip.track))


def windows_of(tracks: Boxes, *, fps: float) -> list[Window]:
    """The windows that follow the tracks, in parts of at most LONGEST seconds."""
    found, longest = [], round(LONGEST * fps)
    for number, track in tracks.tracks.items():
        frames = np.arange(track.frames[0], track.frames[-1] + 1)
        middles = track.xywh[:, :2] + track.xywh[:, 2:] / 2
        centres = np.stack([np.interp(frames, track.frames, middles[:, axis]) for axis in (0, 1)], axis=1)
        centres = _smooth(centres, reach=round(SMOOTH * fps / 2))
        labels, counts = np.unique(track.labels, return_counts=True)
        for begin in range(0, len(frames), longest):
            part = slice(begin, begin + longest)
            inside = (track.frames >= frames[part][0]) & (track.frames <= frames[part][-1])
            if len(frames[part]) >= SHORTEST * fps and inside.any():
                side = MARGIN * np.percentile(track.xywh[inside, 2:].max(axis=1), LARGEST)
                label = str(labels[counts.argmax()])
                found.append(Window(number, label, int(frames[begin]), centres[part], max(8, round(side))))
    return found


def write_table(path: Path, clips: list[Clip], answers: list[dict[str, float]] | None) -> None:
    """Write clips.csv: file, track, label, start, end, and, if a model was asked, class and probability."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["file", "track", "label", "start", "end", *(["class", "probability"] if answers is not None else [])]
    )
    for place, clip in enumerate(clips):
        row = [clip.file.name, clip.track, clip.label, f"{clip.start:.3f}", f"{clip.end:.3f}"]
        for name, value in list((answers or [{}] * len(clips))[place].items())[:1]:
            row += [name, f"{value:.4f}"]
        rows.writerow(row)
    write_aside(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))


def _write(folder: Path, video: VideoFile, window: Window, kept: list[np.ndarray], start: float) -> Clip:
    begin, end = (float(frame / video.rate) for frame in (window.first, window.first + len(kept)))
    path = folder / f"track{window.track:04d}_{begin:08.2f}.mp4"
    pictures = (decode_rgb(jpeg) for jpeg in kept)
    write_film(path, pictures, file=str(video.path), start=start, first=window.first, rate=video.rate)
    return Clip(path, window.track, window.label, begin, end)


def _smooth(values: np.ndarray, *, reach: int) -> np.ndarray:
    """The mean of each row with those at most `reach` rows away; at the ends, with as many as there are."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    places = np.arange(len(values))
    near = np.minimum(reach, np.minimum(places, len(values) - 1 - places))  # the same to both sides: no lag
    return (sums[places + near + 1] - sums[places - near]) / (2 * near + 1)[:, None]
