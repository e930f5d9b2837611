"""Sentences that people have written about videos."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions by the names of the videos: CSV (video, caption) or JSON, see TrainCaption.captions.

    Raises UserError for a file that is missing, is neither, or holds no caption.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no file of captions {path}: name one with --captions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8") from error
    found = _json(path, text) if path.suffix.lower() == ".json" else _csv(path, text)
    captions = {name: [one.strip() for one in its if one.strip()] for name, its in found.items()}
    if not any(captions.values()):
        raise UserError(f"{path} holds no caption")
    return {name: its for name, its in captions.items() if its}


def videos_with_captions(
    store: Store, captions: Mapping[str, Sequence[str]], *, path: Path
) -> list[tuple[Video, list[str]]]:
    """The videos of a store that are named, by the whole path or by the file's name with or without its ending.

    Raises UserError if none is, or a name stands for several.
    """
    by_name = defaultdict(list)
    for name in store.columns["path"]:
        file = PurePosixPath(name)
        for known in {name, str(file.with_suffix("")), file.name, file.stem}:
            by_name[known].append(name)
    found = {}
    for name, its in captions.items():
        paths = by_name.get(name, [])
        if len(paths) > 1:
            raise UserError(f"{path}: '{name}' is the name of {len(paths)} videos of {store.path}: give the whole path")
        if paths:
            found.setdefault(paths[0], []).extend(its)
    if not found:
        raise UserError(f"{path} names no video of {store.path}: it has {next(iter(captions))}, the store {name}")
    return [(video, found[video.path]) for video in store.videos if video.path in found]


def _csv(path: Path, text: str) -> dict[str, list[str]]:
    rows = csv.DictReader(text.splitlines())
    if not {"video", "caption"} <= set(rows.fieldnames or ()):
        raise UserError(f"{path} needs columns video and caption, it has {', '.join(rows.fieldnames or ()) or 'none'}")
    found = defaultdict(list)
    for row in rows:
        found[row["video"]].append(row["caption"] or "")
    return found


def _json(path: Path, text: str) -> dict[str, list[str]]:
    try:
        values = json.loads(text)
        pairs: Iterable = values.items() if isinstance(values, dict) else map(_pair, values)
        found = {name: [its] if isinstance(its, str) else list(its) for name, its in pairs}
        if not all(isinstance(one, str) for its in found.values() for one in its):
            raise ValueError("a caption is no text")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} is not {{video: [caption, …]}} nor a list of {{"clip": video, "captions": […]}} ({error})'
        ) from error


def _pair(entry: Mapping) -> tuple[str, Sequence[str]]:
    return entry["clip" if "clip" in entry else "video"], entry["captions"]
