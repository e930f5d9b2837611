"""The index: what goes in comes out, row by row, and a million rows cost no million objects."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from preprocess.store import Store
from preprocess.store.index import (
    STREAMS,
    Facts,
    Rejected,
    Texts,
    Video,
    Videos,
    facts_at,
    facts_columns,
    read_facts,
    read_videos,
    video_columns,
    write_columns,
)
from preprocess.store.new_file import NewFile, new_file, write_index
from preprocess.store.seal import write_seal
from tests.support.commands import ROOT, environment

NONE = dict.fromkeys(STREAMS, False)
ALL = dict.fromkeys(STREAMS, True)
FLOW = {"method": "tv-l1", "engine": "cpu", "preset": "default"}
PARAMETERS = {"fps": 30.0, "short_side": 32, "mel_bands": 16, "flow": FLOW}


def video(path: str, content: str = "0f" * 16, **more) -> Video:
    usual = {"seconds": 1.5, "frames": 37, "height": 32, "width": 43, "streams": ALL}
    return Video(path=path, content=content, **usual | {"bytes": dict.fromkeys(STREAMS, 5)} | more)


VIDEOS = [
    video("b/ü \udcff.mp4", label="b\udce9", group="g", split="train", damaged=2),
    video(
        *("a.mp4", "1a" * 16),
        **{"seconds": 1 / 3, "frames": 1, "height": 1, "width": 2, "streams": NONE, "why": dict.fromkeys(STREAMS, "?")},
        bytes=dict.fromkeys(STREAMS, 0),
    ),
    video("c\n.mp4", label="", expected=231.24, bytes={"rgb": 2**40, "flow": 0, "audio": 7}, split="test"),
]


def write(path, videos=VIDEOS, rejected=(), *, notes=(), **parameters) -> Store:
    with new_file(path, parameters=PARAMETERS | parameters) as file:
        write_index(file, videos, rejected, notes=notes)
    write_seal(path)
    return Store(path)


def test_an_index_survives_writing_and_reading(tmp_path):
    rejected = [Rejected("z.mp4", "corrupt: " + "x" * 300), Rejected("c\n.mp4", "größer")]
    store = write(tmp_path / "out.h5", VIDEOS, rejected, notes=["one", "two \udcfe"], note="ü")
    assert store.videos == sorted(VIDEOS, key=lambda video: video.path)
    assert store.rejected == rejected[::-1]
    assert store.classes == ["", "b\udce9"]
    assert store.notes == ["one", "two \udcfe"]
    assert store.parameters == json.loads(json.dumps(PARAMETERS | {"note": "ü"}))


def test_a_store_of_unlabelled_videos_alone_has_no_classes(tmp_path):
    store = write(tmp_path / "out.h5", [video("a.mp4")])
    assert (store.classes, store.rejected, store.notes, store.videos) == ([], [], [], [video("a.mp4")])


def test_a_store_without_videos_can_be_read(tmp_path):
    store = write(tmp_path / "out.h5", [])
    assert len(store) == len(store.videos) == 0
    assert list(store.videos) == []


def test_rows_are_asked_for_like_those_of_a_list(tmp_path):
    videos = write(tmp_path / "out.h5").videos
    rows = list(videos)
    assert len(rows) == 3
    assert (videos[0], videos[-1], videos[1:], videos[::-2]) == (rows[0], rows[-1], rows[1:], rows[::-2])
    assert videos == rows and videos != rows[:2] and videos != 5
    for row in (3, -4):
        with pytest.raises(IndexError):
            videos[row]
    assert type(videos[0].frames) is int and type(videos[0].seconds) is float and videos[0].label is None


def test_what_was_cut_short_is_what_promised_more(tmp_path):
    assert [video.truncated for video in write(tmp_path / "out.h5").videos] == [False, False, True]


def test_facts_survive_the_columns_of_a_shard(tmp_path):
    facts = [Facts(**{name: getattr(video, name) for name in Facts.__dataclass_fields__}) for video in VIDEOS]
    with NewFile(tmp_path / "a.h5") as file:
        write_columns(file.create_group("index"), facts_columns(facts))
    with h5py.File(tmp_path / "a.h5") as file:
        columns = read_facts(file["index"])
    assert [Facts(**facts_at(columns, row)) for row in range(3)] == facts


@pytest.mark.parametrize("texts", [[], [""], ["ä", "", "b\udcff", "x" * 5000, "\n"]])
def test_texts_of_any_bytes_come_back(texts):
    column = Texts.of(texts)
    assert list(column) == texts and len(column) == len(texts)
    assert [column[k] for k in range(len(texts))] == texts
    assert column[-1:] == texts[-1:] and column[::2] == texts[::2]
    assert bytes(column.array()).split(b"\0")[:-1] == [os.fsencode(text) for text in texts]
    with pytest.raises(IndexError):
        column[len(texts)]


def test_texts_that_cross_the_blocks_they_are_looked_at_in_are_whole(monkeypatch):
    monkeypatch.setattr("preprocess.store.index.BLOCK", 7)
    texts = [f"{number}" * (number % 9) for number in range(50)]
    column = Texts.of(texts)
    assert [column[k] for k in range(50)] == list(column) == texts


def test_a_text_that_does_not_end_is_no_column():
    with pytest.raises(ValueError, match="text"):
        Texts(np.frombuffer(b"a\0b", np.uint8))


def test_a_zero_byte_in_a_text_makes_no_second_row():
    """No name of a file holds one, but what a decoder says of a file may."""
    assert list(Texts.of(["corrupt: a\0b", "c"])) == ["corrupt: a\\0b", "c"]


def test_columns_that_contradict_the_tables_beside_them_are_refused(tmp_path):
    from preprocess.store.safe_hdf5 import UnsafeFile

    with NewFile(tmp_path / "a.h5") as file:
        rows = [video("a.mp4", label="x", shard=1)]
        write_columns(file.create_group("index"), video_columns(rows, ["x"]))
    with h5py.File(tmp_path / "a.h5") as file:
        columns = read_videos(file["index"], classes=1, shards=2)
        assert Videos(columns, ["x"])[0] == rows[0]
        for classes, shards in ((0, 2), (1, 1)):
            with pytest.raises(UnsafeFile, match="index/"):
                read_videos(file["index"], classes=classes, shards=shards)


@pytest.mark.slow
def test_the_index_of_a_hundred_thousand_videos_is_opened_in_no_time():
    """benchmarks.index has the figures for a million, and what they are compared with."""
    command = [sys.executable, "-m", "benchmarks.index", "--videos", "100000"]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["store"]["open_seconds"] < min(1.0, found["csv"]["open_seconds"])
    assert found["store"]["peak_bytes"] < min(200e6, found["csv"]["peak_bytes"])
