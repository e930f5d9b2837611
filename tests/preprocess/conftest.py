"""A folder of small real videos of many kinds, and the store that the command line makes of it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.video.piece import extract_piece
from tests.support.commands import run
from tests.support.runs import Engine, copy_store, extract_here, write_clips
from tests.support.videos import click, drift, flash, sound, tone, write_video

NOT_UTF8 = os.fsdecode(b"jump/caf\xe9 \xff.mp4")
USED = {  # path → why its streams are absent
    "jump/copy.mp4": {"audio": "no audio track"},
    "jump/li\nne.mp4": {"audio": "no audio track"},
    "jump/moving.mp4": {"audio": "no audio track"},
    "jump/one frame.mp4": {"flow": "one frame"},
    NOT_UTF8: {"audio": "no audio track"},
    "run/deep er/fl\u00e4sh \u7535\u5f71.mkv": {},
    "run/moving.mp4": {},
    "run/portrait.mp4": {"audio": "silent"},
}
FLASH = "run/deep er/fl\u00e4sh \u7535\u5f71.mkv"
REJECTED = {  # path → a word of the reason
    "jump/gone.mp4": "unreadable: No such file",
    "jump/sound.mp4": "only sound",
    "jump/text.mp4": "not media",
    "run/cut.mp4": "corrupt",
    "run/empty.mp4": "corrupt",
}


@dataclass(frozen=True)
class Extracted:
    """One run of python -m preprocess.extract."""

    videos: Path
    store: Path
    result: subprocess.CompletedProcess


def make_clips(root: Path) -> Path:
    """Write the videos of USED and REJECTED below `root`."""
    (root / "run" / "deep er").mkdir(parents=True)
    (root / "jump").mkdir()
    stereo = np.stack([tone(0.5, rate=48_000)] * 2)
    write_video(
        root / "run/moving.mp4", drift(12, step=2), track=sound(stereo, rate=48_000, layout="stereo", codec="aac")
    )
    times = [0.5 + k / 25 for k in range(15)]
    write_video(root / FLASH, flash(15, 8), times=times, track=sound(click(1.1, times[8])), codec="ffv1")
    silence = sound(np.zeros(8000, np.float32), codec="aac")
    write_video(root / "run/portrait.mp4", drift(8), rotation=90, track=silence)
    write_video(root / "jump/moving.mp4", drift(9, step=-2, seed=1))
    write_video(root / "jump/one frame.mp4", drift(1), track=sound(tone(0.3), codec="aac"))
    for name in ("jump/copy.mp4", "jump/li\nne.mp4", NOT_UTF8):
        (root / name).write_bytes((root / "jump/moving.mp4").read_bytes())
    (root / "jump/gone.mp4").symlink_to(root / "nowhere.mp4")
    write_video(root / "jump/sound.mp4", [], track=sound(tone(0.3), codec="aac"))
    (root / "jump/text.mp4").write_text("dear diary\n" * 50)
    (root / "jump/readme.txt").write_text("not a video")
    (root / "run/cut.mp4").write_bytes((root / "run/moving.mp4").read_bytes()[:2000])
    (root / "run/empty.mp4").touch()
    return root


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips") / "my videos")


@pytest.fixture(scope="session")
def extracted(clips, tmp_path_factory) -> Extracted:
    """All clips in one store, by two workers."""
    store = tmp_path_factory.mktemp("extracted") / "out.h5"
    return Extracted(clips, store, run("preprocess.extract", clips, store, "--workers", 2, "--short-side", 32))


@pytest.fixture
def store(extracted) -> Store:
    return Store(extracted.store)


@pytest.fixture
def video(store):
    """A function that gives a video of the store by its path."""

    def find(path: str) -> Video:
        return next(video for video in store.videos if video.path == path)

    return find


@pytest.fixture
def engine(monkeypatch) -> Engine:
    """Extractions of this test are done in its own process."""
    engine = Engine()
    monkeypatch.setattr("preprocess.extraction.job.work_here", engine)
    monkeypatch.setattr("preprocess.extraction.estimate.work_here", engine)

    def watched(file: str, *arguments, **settings):
        engine.decoded.append(Path(file).name)
        return extract_piece(file, *arguments, **settings)

    monkeypatch.setattr("preprocess.extraction.task.extract_piece", watched)
    return engine


@pytest.fixture(scope="session")
def ten(tmp_path_factory) -> Path:
    """A folder of ten videos that nobody may change."""
    return write_clips(tmp_path_factory.mktemp("ten") / "videos", 10)


@pytest.fixture
def videos(ten, tmp_path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(ten, tmp_path / "videos"))


@pytest.fixture(scope="session")
def undisturbed(ten, tmp_path_factory) -> Path:
    """The store of the ten videos, in two shards and its own file. Nobody may change it."""
    out = tmp_path_factory.mktemp("undisturbed") / "out.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preprocess.extraction.job.work_here", Engine())
        extract_here(ten, out)
    return out


@pytest.fixture
def out(tmp_path) -> Path:
    """Where a store is to be, alone in its folder."""
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores" / "out.h5"


@pytest.fixture
def finished(undisturbed, videos, out, engine) -> Path:
    """A store that is as its videos are."""
    copy_store(undisturbed, out.parent)
    extract_here(videos, out)
    assert engine.decoded == []
    return out


@pytest.fixture
def folder(tmp_path):
    """A function that makes empty files below videos/ and gives that folder."""

    def make(*paths: str):
        root = tmp_path / "videos"
        root.mkdir(exist_ok=True)
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        return root

    return make


@pytest.fixture
def table(tmp_path):
    """A function that writes a label file."""

    def write(text: str | bytes):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
