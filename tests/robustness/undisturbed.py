"""What a run that nobody disturbs makes, to compare others with: small videos, two folders' states, and a comparison.

A case is what may be on the disk when a run begins. "fresh": nothing. "grown": the store of an earlier state of the
same folder, since when videos were added, replaced and removed, so that shards are kept, dropped and made anew.
"""

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from preprocess.store import Store
from preprocess.store.seal import Broken, read_seal
from tests.support.videos import sound, tone, write_video

OUT = "out.h5"
REPORT = "out.report.json"
DYING = 3.0  # seconds after which nothing of a killed run may be alive


@dataclass(frozen=True)
class Recipe:
    """The videos of a folder."""

    clips: int  # different ones
    frames: tuple[int, int]  # the shortest and the longest
    seed: int = 0


def write_clip(path: Path, *, seed: int, frames: int, silent: bool = False) -> None:
    """Noise, which makes many bytes of few pixels, and a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = list(np.random.default_rng(seed).integers(0, 256, (frames, 32, 44, 3), dtype=np.uint8))
    track = None if silent else sound(tone(frames / 25, frequency=300 + 40 * (seed % 50)), codec="aac")
    write_video(path, pictures, track=track)


def write_folder(root: Path, recipe: Recipe) -> None:
    """The earlier state of the folder: classes, a copy, a video without sound and a file that is none."""
    rng = np.random.default_rng(recipe.seed)
    for k in range(recipe.clips):
        frames = int(rng.integers(*recipe.frames, endpoint=True))
        write_clip(root / f"class{k % 3}/{k:02d}.mp4", seed=recipe.seed + k, frames=frames, silent=k == 1)
    shutil.copy(root / "class0/00.mp4", root / "class1/copy.mp4")
    (root / "class2/bad.mp4").write_text("not a video")


def change_folder(root: Path, recipe: Recipe) -> None:
    """Its present state: a video is gone, one is another, two are new, one has moved."""
    shortest = recipe.frames[0]
    (root / "class0/03.mp4").unlink()
    for number, name in ((1000, "class1/04.mp4"), (1001, "class0/new.mp4"), (1002, "class2/zz new.mp4")):
        write_clip(root / name, seed=recipe.seed + number, frames=shortest)
    if recipe.clips > 5:
        (root / "class2/05.mp4").rename(root / "class1/moved.mp4")


@dataclass
class Case:
    """Where a run begins, and where it must end."""

    name: str
    videos: Path
    before: Path | None  # a folder with what is there when a run begins
    after: Path  # a folder with what an undisturbed run leaves

    def begin(self, folder: Path) -> Path:
        """Put what is there before a run into a new folder; the store's path in it."""
        shutil.rmtree(folder, ignore_errors=True)
        if self.before is None:
            folder.mkdir()
        else:
            shutil.copytree(self.before, folder)
        return folder / OUT

    def faults(self, out: Path) -> list[str]:
        """What is different from the undisturbed run: names, bytes, and for those that differ, what in them."""
        there, wanted = files(out.parent), files(self.after)
        found = [f"left over: {name}" for name in sorted(there - wanted)]
        found += [f"missing: {name}" for name in sorted(wanted - there)]
        for name in sorted(there & wanted - {REPORT}):
            path, like = out.parent / name, self.after / name
            if path.is_file() and path.read_bytes() != like.read_bytes():
                what = differing(path, like)
                found.append(f"{name} has other bytes: {what or 'the same datasets and attributes'}")
        return found


def files(folder: Path) -> set[str]:
    """The files and folders below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def contents(path: Path) -> dict[str, bytes]:
    """Every dataset and attribute of an HDF5 file, by name."""
    found = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = f"{item.dtype} {item.shape} ".encode() + item[()].tobytes()
        else:
            found[name] = b"group"
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = repr(value).encode()

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return found


def differing(path: Path, wanted: Path) -> list[str]:
    """The datasets and attributes that two HDF5 files do not share."""
    try:
        a, b = contents(path), contents(wanted)
    except OSError as error:
        return [str(error)]
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


@dataclass(frozen=True)
class Snapshot:
    """What a killed run has left of its work."""

    settled: frozenset[str]  # paths of which a journal, or the last report, tells the outcome
    whole: frozenset[str]  # contents that a piece, a shard or the store holds
    halves: int  # videos at work: pieces that were not whole

    @classmethod
    def of(cls, out: Path, videos: Path) -> "Snapshot":
        partial = out.with_name(out.name + ".partial")
        rows = []
        for journal in sorted(partial.glob("journal/*.jsonl")):
            for line in journal.read_bytes().split(b"\n"):
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    continue
        report = out.parent / REPORT
        if report.exists():
            rows += json.loads(report.read_text())["videos"]
        looks = {str(path.relative_to(videos)): _look(path) for path in videos.rglob("*") if path.is_file()}
        settled = {row["path"] for row in rows if tuple(row["signature"] or ()) == looks.get(row["path"])}
        whole = {video.content for video in Store(out).videos} if out.exists() else set()
        for path in partial.glob("pieces/*/*.h5"):
            whole.add(path.stem)
        for path in out.with_name(out.name + ".shards").glob("*.h5"):
            try:
                read_seal(path)
                with h5py.File(path) as file:
                    whole |= set(file["videos"])
            except (OSError, Broken):
                continue
        halves = len([path for path in partial.glob("scratch/*/*") if path.name != "store.h5"])
        return cls(frozenset(settled), frozenset(whole), halves)


def _look(path: Path) -> tuple[int, int, int]:
    look = os.stat(path)
    return look.st_size, look.st_mtime_ns, look.st_ctime_ns


def session(leader: int) -> dict[int, str]:
    """The living processes of a session, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError, IndexError):
            state, _, _, number = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(number) == leader and (state not in "ZX" or len(list((entry / "task").iterdir())) > 1):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def survivors(leader: int) -> dict[int, str]:
    """What of a killed run is alive after the time that dying may take."""
    end = time.monotonic() + DYING
    while (alive := session(leader)) and time.monotonic() < end:
        time.sleep(0.02)
    return alive
