"""Finding the videos, with the name, label, group and split of each."""

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path

from preprocess.common.errors import UserError

VIDEO_SUFFIXES = {  # of the formats that preprocess.video.container opens
    *(".3g2", ".3gp", ".amv", ".apng", ".asf", ".avi", ".divx", ".dv", ".dvr-ms", ".f4v", ".flv", ".gif", ".gxf"),
    *(".ivf", ".k3g", ".m2t", ".m2ts", ".m4v", ".mj2", ".mjp2", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mpe"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".nsv", ".nut", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".tod", ".tp"),
    *(".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
    # without a container
    *(".264", ".265", ".av1", ".avc", ".h261", ".h263", ".h264", ".h265", ".hevc", ".m1v", ".m2v", ".mjpeg", ".mjpg"),
    *(".mpv", ".obu"),
}
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LEADS_OUT = "link: leads out of the videos' folder (--follow-links takes it)"
UCF_NAME = re.compile(r"(v_.+_g\d+)_c\d+$")  # v_Archery_g08_c01: clips of one group are cut from one video


@dataclass(frozen=True)
class Source:
    """One video to extract."""

    file: str  # to read
    path: str  # its name: relative to the videos' folder, with forward slashes
    label: str | None
    group: str | None  # videos of one group never lie on both sides of a split
    split: str | None  # train, val, test
    refused: str | None = None  # the reason why it must not be opened


@dataclass(frozen=True)
class Catalog:
    """The sources found, sorted by path, and notes about them for the user."""

    sources: list[Source]
    notes: list[str]


def group_from_name(path: str) -> str | None:
    """The group in a UCF101-like name: ``v_Archery_g08_c01.avi`` → ``v_Archery_g08``."""
    match = UCF_NAME.match(composed(Path(path).stem))
    return match and match[1]


def composed(text: str) -> str:
    """Unicode's composed form (NFC): macOS writes é as two characters, and both are one name."""
    return unicodedata.normalize("NFC", text)


def from_folder(root: Path, *, follow_links: bool = False) -> Catalog:
    """Every video below `root`; the first folder of its path is its class.

    Videos directly in `root` have no label. Hidden files are skipped; so are, with a note, files without a video's
    suffix. A link that leads out of `root` is not followed without `follow_links`: a linked file is listed as refused,
    a linked folder is skipped with a note.
    """
    found, passed = [], Counter()
    paths, folders_out = _walk(root, follow_links=follow_links)
    for path in paths:
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            found.append(path)
        else:
            passed[Path(path).suffix.lower() or "no suffix"] += 1
    notes = []
    if folders_out:
        notes.append(f"passed over {folders_out} linked folders that lead out of {root} (--follow-links takes them)")
    if not found:
        more = f" ({notes[0]})" if notes else ""
        raise UserError(f"no videos in {root}: put them at {root}/<class>/<video>, or name them with --labels{more}")
    if passed:
        kinds = ", ".join(f"{kind} ×{count}" for kind, count in passed.most_common(5))
        notes.append(f"passed over {sum(passed.values())} files that are no videos by their names ({kinds})")
    unlabelled = sum("/" not in path for path in found)
    if unlabelled:
        notes.append(
            f"{unlabelled} videos lie directly in {root} and get no label; "
            f"to train on them, sort them into class folders or give --labels"
        )
    splits = sorted({path.split("/")[0] for path in found if "/" in path and path.split("/")[0].lower() in SPLITS})
    if len(splits) > 1:
        meant = [(SPLITS[name.lower()], name) for name in splits if SPLITS[name.lower()] != "train"]
        patterns = " ".join(f"--{split} '*/{name}/*'" for split, name in meant)
        notes.append(
            f"the folders {', '.join(splits)} of {root} are taken for classes: give the class and the split of each "
            f"video with --labels, or sort the videos into <class>/<split>/ and add {patterns}"
        )
    sources = [
        Source(
            file=os.path.join(root, path),
            path=path,
            label=composed(path.split("/")[0]) if "/" in path else None,
            group=group_from_name(path),
            split=None,
            refused=_refusal(root, path) if not follow_links and os.path.islink(os.path.join(root, path)) else None,
        )
        for path in sorted(found)
    ]
    return Catalog(sources, notes)


def from_csv(root: Path, table: Path, *, follow_links: bool = False) -> Catalog:
    """The videos that a CSV file names: columns path and label, and optionally split and group.

    Paths are relative to `root`, or absolute, and may lead out of it, since the user wrote them. A link on the way may
    not, without `follow_links`: that video is listed as refused.
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
        if "\0" in "".join(row.values()):
            raise UserError(f"{where}: a NUL byte; save the table as plain text in UTF-8")
        if not row["path"]:
            raise UserError(f"{where}: the path is empty")
        spelled = _as_on_disk(root, row["path"])
        file = os.path.join(root, spelled)
        path = os.path.normpath(spelled)
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
        group = composed(row.get("group") or "") or group_from_name(path)
        refused = None if follow_links else _refusal(root, spelled)
        sources.append(Source(file, path, composed(row["label"]), group, SPLITS.get(split), refused))
    if missing:
        where, path = missing[0]
        more = f" ({len(missing)} lines name files that do not exist)" if len(missing) > 1 else ""
        raise UserError(f"{where}: there is no file {path} in {root}{more}")
    if 0 < sum(source.split is None for source in sources) < len(sources):
        line = next(lines_of[source.path] for source in sources if source.split is None)
        raise UserError(f"{table} line {line}: the split is empty, though other lines have one; fill in all or none")
    return Catalog(sorted(sources, key=lambda source: source.path), [])


def with_splits(found: Catalog, *, val: Sequence[str], test: Sequence[str]) -> Catalog:
    """The same videos, split by patterns of their paths like ``*_g0[1-7]_*``; the rest is for training.

    Raises UserError for a table that has a split column, a pattern that no path matches, a path that matches patterns
    of both splits, and a group that they divide.
    """
    if not val and not test:
        return found
    if any(source.split for source in found.sources):
        raise UserError("the labels name a split already: leave out --val and --test, or the column split")
    splits = {source.path: "train" for source in found.sources}
    for split, patterns in (("val", val), ("test", test)):
        for pattern in patterns:
            matches = [path for path in splits if fnmatchcase(composed(path), composed(pattern))]
            if not matches:
                example = next(iter(splits))
                raise UserError(f"--{split} '{pattern}' matches no video: patterns are of paths like {example}")
            for path in matches:
                if splits[path] not in ("train", split):
                    raise UserError(f"{path} matches patterns of --val and of --test: a video has one split")
                splits[path] = split
    firsts: dict[str | None, str] = {}
    for source in found.sources:
        first = firsts.setdefault(source.group, source.path)
        if source.group and splits[first] != splits[source.path]:
            raise UserError(
                f"group {source.group} is divided: {first} is {splits[first]}, {source.path} is {splits[source.path]}; "
                f"give --val and --test patterns of whole groups"
            )
    return replace(found, sources=[replace(source, split=splits[source.path]) for source in found.sources])


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns' names, and each row with its line number."""
    with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        return columns, [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]


def _as_on_disk(root: Path, path: str) -> str:
    """The path as the disk spells it, if its names are there in another of Unicode's forms alone; else unchanged."""
    if path.isascii() or os.path.lexists(os.path.join(root, path)):
        return path
    found = ""
    for name in path.split("/"):
        folder = os.path.join(root, found)
        if name and not os.path.lexists(os.path.join(folder, name)):
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            name = next((one for one in names if composed(one) == composed(name)), name)
        found += f"{name}/"
    return found[:-1]


def _walk(root: Path, *, follow_links: bool) -> tuple[list[str], int]:
    """Relative paths of the visible files below `root`, through links to folders, each folder once.

    Also the number of links to folders outside that were not followed.
    """
    files = []
    folders_out = 0
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a parent, or a second path to the same folder
            folders.clear()
            continue
        seen.add(real)
        relative = os.path.relpath(folder, root)
        visible = sorted(name for name in folders if not name.startswith("."))
        inside = [name for name in visible if follow_links or not _refusal(root, os.path.join(relative, name))]
        folders_out += len(visible) - len(inside)
        folders[:] = inside
        for name in names:  # dead links, pipes and sockets too: they are listed as unreadable
            if not name.startswith("."):
                files.append(name if relative == "." else f"{relative}/{name}")
    return files, folders_out


def _refusal(root: Path, path: str) -> str | None:
    """The reason not to open `path`, relative to `root` or absolute, if a link on its way leads elsewhere; else None.

    The path may not leave `root` or, if the user named a file outside of `root`, that file's folder.
    """
    top = os.path.abspath(root)
    file = os.path.join(top, path)
    if not Path(os.path.normpath(file)).is_relative_to(top):
        top = os.path.dirname(file)
    return None if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(top)) else LEADS_OUT


def part_of(path: str, part: str) -> bool:
    """True if a video belongs to a part like "3/64". Adding videos moves none to another part."""
    number, count = map(int, part.split("/"))
    digest = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count == number - 1
