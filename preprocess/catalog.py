"""Which videos there are, and what each is called, labelled and grouped with."""

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import UserError

VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
UCF_NAME = re.compile(r"(v_.+_g\d+)_c\d+$")  # v_Archery_g08_c01: clips of one group are cut from one video


@dataclass(frozen=True)
class Source:
    """One video to extract."""

    file: str  # where it is read
    path: str  # what it is called: relative to the videos' folder, with forward slashes
    label: str | None
    group: str | None  # videos of one group never lie on both sides of a split
    split: str | None  # train, val, test


@dataclass(frozen=True)
class Catalog:
    """What was found, sorted by path, and what a user should hear about it."""

    sources: list[Source]
    notes: list[str]


def group_from_name(path: str) -> str | None:
    """The group that a UCF101-like name tells: ``v_Archery_g08_c01.avi`` → ``v_Archery_g08``."""
    match = UCF_NAME.match(Path(path).stem)
    return match and match[1]


def from_folder(root: Path) -> Catalog:
    """Every video below `root`; the first folder of its path is its class.

    Videos that lie directly in `root` have no label. Hidden files and files without a video's suffix are
    passed over, the latter with a note.
    """
    found, passed = [], Counter()
    for path in _walk(root):
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            found.append(path)
        else:
            passed[Path(path).suffix.lower() or "no suffix"] += 1
    if not found:
        raise UserError(f"no videos in {root}: put them at {root}/<class>/<video>, or name them with --labels")
    notes = []
    if passed:
        kinds = ", ".join(f"{kind} ×{count}" for kind, count in passed.most_common(5))
        notes.append(f"passed over {sum(passed.values())} files that are no videos by their names ({kinds})")
    unlabelled = sum("/" not in path for path in found)
    if unlabelled:
        notes.append(
            f"{unlabelled} videos lie directly in {root} and get no label; "
            f"to train on them, sort them into class folders or give --labels"
        )
    sources = [
        Source(
            file=os.path.join(root, path),
            path=path,
            label=path.split("/")[0] if "/" in path else None,
            group=group_from_name(path),
            split=None,
        )
        for path in sorted(found)
    ]
    return Catalog(sources, notes)


def from_csv(root: Path, table: Path) -> Catalog:
    """The videos that a CSV file names: columns path and label, and optionally split and group.

    Paths are relative to `root`, or absolute.
    """
    try:
        columns, rows = _read_table(table)
    except csv.Error as error:
        raise UserError(f"{table} is no CSV file: {error}") from error
    if not {"path", "label"} <= set(columns):
        raise UserError(
            f"{table}: the first line must name the columns path,label and may name split,group; "
            f"it says: {','.join(columns)[:80] or 'nothing'}"
        )
    if not rows:
        raise UserError(f"{table} names no videos")
    lines_of: dict[str, int] = {}
    sources = []
    missing = []
    for line, row in rows:
        where = f"{table} line {line}"
        if not row["path"]:
            raise UserError(f"{where}: the path is empty")
        file = os.path.join(root, row["path"])
        path = os.path.normpath(row["path"])
        if os.path.isabs(path):
            path = os.path.relpath(path, root) if Path(path).is_relative_to(root.absolute()) else path.lstrip("/")
        if path in lines_of:
            raise UserError(f"{where}: {row['path']} was named in line {lines_of[path]} already")
        lines_of[path] = line
        if not row["label"]:
            raise UserError(f"{where}: no label for {row['path']}")
        split = row.get("split", "").lower()
        if split and split not in SPLITS:
            raise UserError(f"{where}: unknown split '{split}': use train, val or test")
        if not os.path.isfile(file):
            missing.append((where, row["path"]))
        group = row.get("group") or group_from_name(path)
        sources.append(Source(file, path, row["label"], group, SPLITS.get(split)))
    if missing:
        where, path = missing[0]
        more = f" ({len(missing)} lines name files that do not exist)" if len(missing) > 1 else ""
        raise UserError(f"{where}: there is no file {path} in {root}{more}")
    if 0 < sum(source.split is None for source in sources) < len(sources):
        line = next(lines_of[source.path] for source in sources if source.split is None)
        raise UserError(f"{table} line {line}: the split is empty, though other lines have one; fill in all or none")
    return Catalog(sorted(sources, key=lambda source: source.path), [])


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns' names, and each row with its line number."""
    with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        return columns, [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]


def _walk(root: Path) -> list[str]:
    """Relative paths of the visible files below `root`, through links to folders, each folder once."""
    files = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(folder, root)
        for name in names:
            file = os.path.join(folder, name)
            if not name.startswith(".") and (os.path.isfile(file) or os.path.islink(file)):  # dead links are listed
                files.append(name if relative == "." else f"{relative}/{name}")
    return files
