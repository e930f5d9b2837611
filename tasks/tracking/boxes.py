"""Boxes of a video, as arrays; and the files that hold them: MOTChallenge's text, and COCO's JSON."""

import csv
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside


@dataclass(frozen=True)
class Boxes:
    """Boxes of one video, in the order of its frames."""

    frames: np.ndarray  # (N,) int, the first frame is 0
    xywh: np.ndarray  # (N, 4) float: left, top, width, height in pixels
    scores: np.ndarray  # (N,) float, 1 if unknown
    ids: np.ndarray  # (N,) int, one number a track; -1 for a detection
    labels: np.ndarray  # (N,) str, the class; empty if unknown

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: np.ndarray | slice) -> "Boxes":
        return Boxes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def tracks(self) -> dict[int, "Boxes"]:
        """The boxes of each track."""
        return {int(number): self[self.ids == number] for number in np.unique(self.ids[self.ids >= 0])}

    def at(self, frame: int) -> "Boxes":
        """The boxes of one frame. `frames` must rise, as `sort` makes them."""
        return self[slice(*np.searchsorted(self.frames, (frame, frame + 1)))]

    def sort(self) -> "Boxes":
        """The same boxes in the order of frames, and within a frame of tracks."""
        return self[np.lexsort((self.ids, self.frames))]

    def with_ids(self, ids: np.ndarray) -> "Boxes":
        return replace(self, ids=np.asarray(ids, int))


def make_boxes(frames, xywh, *, scores=None, ids=None, labels=None) -> Boxes:
    """Boxes of lists or arrays, sorted; scores are 1, ids -1 and labels empty if they are not given."""
    frames = np.asarray(frames, int).reshape(-1)
    count = len(frames)
    return Boxes(
        frames,
        np.asarray(xywh, float).reshape(count, 4),
        np.ones(count) if scores is None else np.asarray(scores, float).reshape(count),
        np.full(count, -1) if ids is None else np.asarray(ids, int).reshape(count),
        np.full(count, "") if labels is None else np.asarray(labels, str).reshape(count),
    ).sort()


def concatenate(parts: list[Boxes]) -> Boxes:
    """All boxes of several, sorted."""
    if not parts:
        return make_boxes([], [])
    return Boxes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Boxes))).sort()


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each of the first boxes with each of the second: (N, 4), (M, 4) xywh → (N, M)."""
    first, second = first[:, None], second[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.prod(np.maximum(0, high - low), axis=-1)
    union = np.prod(first[..., 2:], axis=-1) + np.prod(second[..., 2:], axis=-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def read_boxes(path: Path) -> Boxes:
    """The boxes of a file: .json as COCO's, anything else as MOTChallenge's text (see `read_mot`).

    Raises UserError, with the line or the entry, for what cannot be read.
    """
    try:
        return _read_coco(path) if path.suffix.lower() == ".json" else read_mot(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: give MOTChallenge's lines, or COCO's JSON named .json") from error


def read_mot(path: Path) -> Boxes:
    """The boxes of a file of lines ``frame,id,x,y,w,h[,score,…]``; the first frame is 1, and an id of -1 is none.

    Raises UserError, with the line, for one that has too few numbers, a frame below 1, or a box without size.
    """
    rows, labels = [], []
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, cells in enumerate(csv.reader(file), start=1):
            if not cells or not "".join(cells).strip():
                continue
            try:
                row = [float(cell) for cell in cells[:7]]
            except ValueError:
                row = []
            if not len(row) >= 6 or not all(map(math.isfinite, row)):
                raise UserError(f"{path}, line {number}: needs the numbers frame,id,x,y,w,h[,score], not {cells[:7]}")
            _check(row[0], row[2:6], f"{path}, line {number}", first=1)
            rows.append([*row, 1.0][:7])
            labels.append("")
    table = np.array(rows).reshape(-1, 7)
    boxes = make_boxes(table[:, 0] - 1, table[:, 2:6], scores=table[:, 6], ids=table[:, 1], labels=labels)
    _check_once(boxes, path)
    return boxes


def write_mot(path: Path, boxes: Boxes) -> None:
    """Write MOTChallenge's lines ``frame,id,x,y,w,h,score,-1,-1,-1``; the first frame is 1."""
    rows = zip((boxes.frames + 1).tolist(), boxes.ids.tolist(), boxes.xywh.tolist(), boxes.scores.tolist(), strict=True)
    lines = [
        f"{frame},{number},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.4f},-1,-1,-1\n"
        for frame, number, (x, y, w, h), score in rows
    ]
    write_aside(path, lambda part: part.write_text("".join(lines), encoding="utf-8"))


def write_coco(path: Path, boxes: Boxes, *, video: str, fps: float) -> None:
    """Write COCO's JSON: an image a frame, with `frame_id` from 0, and an annotation a box, with `track_id`."""
    names = sorted(set(boxes.labels.tolist())) or [""]
    images = [
        {"id": k + 1, "frame_id": k, "file_name": f"{video}/{k:06d}", "seconds": round(k / fps, 4)}
        for k in range(int(boxes.frames.max(initial=-1)) + 1)
    ]
    annotations = [
        {
            "id": row + 1,
            "image_id": int(boxes.frames[row]) + 1,
            "category_id": names.index(str(boxes.labels[row])) + 1,
            "track_id": int(boxes.ids[row]),
            "bbox": [round(value, 2) for value in boxes.xywh[row].tolist()],
            "area": round(float(np.prod(boxes.xywh[row, 2:])), 2),
            "iscrowd": 0,
            "score": round(float(boxes.scores[row]), 4),
        }
        for row in range(len(boxes))
    ]
    categories = [{"id": k, "name": name or "object"} for k, name in enumerate(names, start=1)]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"))


def _read_coco(path: Path) -> Boxes:
    """COCO's annotations, or the bare list of results, in which image_id is the number of the frame from 1 on."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    whole = isinstance(found, dict)
    entries = found.get("annotations") if whole else found
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list 'annotations': give COCO's JSON, or its list of results")
    names = {one.get("id"): str(one.get("name")) for one in found.get("categories", [])} if whole else {}
    places = _frames_of_images(found.get("images", []), path) if whole else {}
    columns: list[tuple] = []
    for number, entry in enumerate(entries):
        at = f"{path}, annotation {number}"
        try:
            image, box = entry["image_id"], [float(value) for value in entry["bbox"]]
            score, track = float(entry.get("score", 1)), int(entry.get("track_id", -1))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{at}: needs image_id and bbox [x, y, w, h] ({error!r})") from error
        if whole and image not in places:
            raise UserError(f"{at}: there is no image {image}")
        frame = places[image] if whole else image - 1
        _check(frame, box, at, first=0)
        name = names.get(entry.get("category_id"), "")
        columns.append((frame, box, score, track, "" if name == "object" else name))
    frames, xywh, scores, ids, labels = zip(*columns, strict=True) if columns else ([],) * 5
    boxes = make_boxes(frames, xywh, scores=scores, ids=ids, labels=labels)
    _check_once(boxes, path)
    return boxes


def _frames_of_images(images: list, path: Path) -> dict:
    """Image → frame: its frame_id, or its place in the order of their numbers."""
    try:
        known = sorted(images, key=lambda one: one["id"])
        return {one["id"]: int(one.get("frame_id", place)) for place, one in enumerate(known)}
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: each of its images needs a number 'id' ({error!r})") from error


def _check(frame: float, box: list[float], at: str, *, first: int) -> None:
    if frame != int(frame) or frame < first:
        raise UserError(f"{at}: the frame must be a whole number from {first} on, not {frame:g}")
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise UserError(f"{at}: the box needs x, y, and a width and height above 0, not {box}")


def _check_once(boxes: Boxes, path: Path) -> None:
    """Raises UserError if a track has two boxes in one frame."""
    seen = boxes[boxes.ids >= 0]
    pairs, counts = np.unique(np.stack([seen.frames, seen.ids]), axis=1, return_counts=True)
    if (counts > 1).any():
        frame, number = pairs[:, counts > 1][:, 0]
        raise UserError(f"{path}: id {number} stands twice in frame {frame + 1}; give -1 to what has no id")
