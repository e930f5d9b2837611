"""Extractions within the tests' own process: no workers to wait for, and nothing hidden of what is done."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest

from preprocess.common.command import run_command
from preprocess.extract import extract, main
from preprocess.extraction.report import report_path
from preprocess.extraction.settings import ExtractSettings
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask
from preprocess.store import Store
from preprocess.store.format import shard_folder
from preprocess.video.settings import PieceSettings
from tests.support.commands import command, environment
from tests.support.videos import drift, sound, tone, write_video

SHARD_SIZE = 0.0001  # GB; four of the clips
TEN = [f"{number:02d}.mp4" for number in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)]  # in the order of paths: jump/, run/
COMMAND = ("--short-side", 38, "--shard-size", SHARD_SIZE)  # the same for a command line


class Killed(BaseException):
    """What ends a run that is killed on purpose."""


class Engine:
    """Stands in for preprocess.extraction.local: every video is done here, one after the other."""

    def __init__(self) -> None:
        self.decoded: list[str] = []  # names of files
        self.before: Callable[[int], None] = lambda number: None  # is called before each video

    def __call__(self, sources: list[Source], unit: VideoTask, **_: object) -> Iterator[Outcome]:
        for number, source in enumerate(sources):
            self.before(number)
            yield unit(source)

    def kill_before(self, number: int) -> None:
        """End the next run when so many videos are done."""

        def before(reached: int) -> None:
            if reached == number:
                raise Killed

        self.before = before


def write_clips(root: Path, count: int, *, first: int = 0) -> Path:
    """Write different clips below `root`, run/00.mp4, jump/01.mp4 …, each of 28 kB in a store."""
    for number in range(first, first + count):
        path = root / ("run", "jump")[number % 2] / f"{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        track = sound(tone(0.48, frequency=300 + 20 * number), codec="aac")
        write_video(path, drift(12, size=(72, 96), seed=number), track=track)
    return root


def settings_for(videos: Path, out: Path, **settings: object) -> ExtractSettings:
    """As COMMAND gives them."""
    usual = {"workers": 1, "shard_size": SHARD_SIZE, "store": PieceSettings(short_side=38)}
    return ExtractSettings(videos, out, **usual | settings)


def extract_here(videos: Path, out: Path, **settings: object) -> Store | None:
    """One run of an extraction; the fixture `engine` must be in use."""
    return extract(settings_for(videos, out, **settings))


def interrupt(engine: "Engine", number: int, videos: Path, out: Path, **changes: object) -> None:
    """Extract, and be killed before the decoding of a video; from then on nothing is killed."""
    engine.kill_before(number)
    with pytest.raises(Killed):
        extract_here(videos, out, **changes)
    engine.before = lambda _: None


def run_here(monkeypatch, capsys, *arguments: object, main: Callable = main) -> subprocess.CompletedProcess:
    """A whole command line, by default extraction, within this process; without the bar's lines."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_command(main)
    said = capsys.readouterr()
    lines = [line.split("\r")[-1] for line in said.err.split("\n")]
    errors = "\n".join(line for line in lines if line and "%|" not in line)
    return subprocess.CompletedProcess(arguments, ended.value.code, said.out, errors)


def files(out: Path) -> dict[str, bytes]:
    """Every byte of a store: name of the file → its content."""
    members = [out, *sorted(shard_folder(out).glob("*"))]
    return {path.name.replace(out.name, "store"): path.read_bytes() for path in members}


def streams(out: Path) -> dict[str, dict[str, bytes]]:
    """What a store holds, wherever it lies: path of the video → name of the dataset → its bytes."""
    store, found = Store(out), {}
    for video in store.videos:
        found[video.path] = data = {}
        store.group(video).visititems(
            lambda name, item, data=data: (
                data.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def leftovers(out: Path) -> list[str]:
    """What lies beside a store that is no part of it, and is not its report."""
    expected = {out.name, shard_folder(out).name, out.stem + ".report.json"}
    return sorted(set(os.listdir(out.parent)) - expected)


def copy_store(out: Path, target: Path) -> Path:
    """A store and all that belongs to it, in another folder."""
    target.mkdir(exist_ok=True)
    for name in (out.name, out.stem + ".report.json"):
        if (out.parent / name).exists():
            shutil.copy2(out.parent / name, target / name)
    if shard_folder(out).exists():
        shutil.copytree(shard_folder(out), shard_folder(target / out.name), dirs_exist_ok=True)
    return target / out.name


def report(out: Path) -> dict:
    return json.loads(report_path(out).read_text())


def snapshot(folder: Path) -> dict[Path, tuple]:
    """Every file below a folder, and whether it was touched."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def start(videos: Path, out: Path, *more: object) -> subprocess.Popen:
    """The real command, in its own process group. What it says goes to the file log."""
    with open(out.parent.parent / "log", "a") as log:
        arguments = command("preprocess.extract", videos, out, *COMMAND, *more)
        return subprocess.Popen(arguments, env=environment(), stdout=log, stderr=log, start_new_session=True)


def journal_lines(out: Path) -> int:
    """How many videos a run has noted down."""
    return sum(path.read_bytes().count(b"\n") for path in out.parent.glob("out.h5.partial/journal/*.jsonl"))
