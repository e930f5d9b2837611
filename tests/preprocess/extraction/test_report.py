"""The report beside a store: every video once, with what became of it."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from preprocess.common import files
from preprocess.extraction.report import (
    POINTS,
    Progress,
    duplicate_notes,
    find_duplicates,
    print_run,
    print_stages,
    remembered,
    report_path,
    row,
    write_report,
)
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome
from preprocess.store import Store
from preprocess.store.index import Facts, notes_on_videos
from tests.preprocess.conftest import NOT_UTF8, REJECTED, USED
from tests.support.runs import extract_here
from tests.support.videos import drift, sound, tone, write_video

FACTS = Facts(content="0" * 32, seconds=3.0, frames=75, height=32, width=43, why={"audio": "silent"})


def read(out: Path) -> dict:
    return json.loads(report_path(out).read_text())


def source(path: str, *, label: str | None = None, split: str | None = None, file: str = "") -> Source:
    return Source(file or path, path, label, None, split)


def outcome(path: str, content: str | None = "0" * 32, **more) -> Outcome:
    return Outcome(path, (1, 2, 3), content, **more)


def test_a_report_lies_beside_its_store_under_its_name():
    assert report_path(Path("a/out.h5")) == Path("a/out.report.json")
    assert report_path(Path("my.store.h5")) == Path("my.store.report.json")


def test_every_video_is_listed_once_as_what_it_became(extracted):
    found = read(extracted.store)
    status = {video["path"]: video["status"] for video in found["videos"]}
    assert len(found["videos"]) == len(USED) + len(REJECTED)
    assert status == dict.fromkeys(USED, "used") | dict.fromkeys(REJECTED, "rejected")
    assert found["status"] == {"used": len(USED), "rejected": len(REJECTED)}
    assert NOT_UTF8 in status


def test_a_rejected_video_has_its_reason_and_a_used_one_what_it_lacks(extracted):
    videos = {video["path"]: video for video in read(extracted.store)["videos"]}
    for path, why in REJECTED.items():
        assert why in videos[path]["reason"]
    for path, missing in USED.items():
        assert (videos[path]["reason"], videos[path]["missing"]) == (None, missing)
        assert videos[path]["seconds"] > 0


def test_the_head_tells_what_the_run_did_and_with_what(extracted):
    found = read(extracted.store)
    assert found["videos_done"] == len(USED) + len(REJECTED)
    assert found["took"] > 0
    assert found["parameters"] == Store(extracted.store).parameters
    assert (found["workers"], found["engine"]) == (2, "local")
    assert sum(found["reasons"].values()) == len(REJECTED)
    assert found["reasons"]["not media"] == 1
    assert {"digest", "decode", "flow", "mel", "write"} <= found["cpu_seconds"].keys()
    assert found["throughput"][-1][1] == found["videos_done"]
    (same,) = found["duplicates"]
    assert set(same) == {"jump/copy.mp4", "jump/li\nne.mp4", "jump/moving.mp4", NOT_UTF8}


def test_there_is_a_line_for_each_video_so_that_grep_finds_it(extracted):
    lines = report_path(extracted.store).read_text().splitlines()
    assert len([line for line in lines if line.startswith('  {"path": ')]) == len(USED) + len(REJECTED)


def test_a_video_that_ends_before_it_should_is_listed_as_truncated(engine, tmp_path):
    """A file of which the last third is missing, as after a download that broke off."""
    (tmp_path / "videos/run").mkdir(parents=True)
    whole = write_video(tmp_path / "videos/run/whole.mkv", drift(75), track=sound(tone(3.0)), codec="ffv1")
    data = whole.read_bytes()
    (tmp_path / "videos/run/cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "out.h5"
    store = extract_here(tmp_path / "videos", out)
    videos = {video["path"]: video for video in read(out)["videos"]}
    assert videos["run/whole.mkv"]["status"] == "used" and videos["run/whole.mkv"]["expected"] is None
    cut = videos["run/cut.mkv"]
    assert cut["status"] == "truncated"
    assert cut["expected"] == pytest.approx(3.0, abs=0.1) and 1.0 < cut["seconds"] < 2.5
    assert read(out)["status"] == {"truncated": 1, "used": 1}
    assert [video.truncated for video in store.videos] == [True, False]


def test_a_row_tells_the_status_from_the_facts():
    assert row(outcome("a", reason="corrupt: x"), None)["status"] == "rejected"
    assert row(outcome("a"), FACTS)["status"] == "used"
    cut = Facts(**vars(FACTS) | {"expected": 9.0})
    assert row(outcome("a"), cut) | {"status": "truncated", "expected": 9.0} == row(outcome("a"), cut)


def test_what_a_report_says_is_remembered_for_files_that_are_as_they_were(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_text("x")
    looks = (file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    rows = [row(Outcome("a.mp4", looks, "0" * 32, cpu={"decode": 1.0}), FACTS), row(outcome("b.mp4"), FACTS)]
    write_report(tmp_path / "out.h5", rows, progress=Progress(), duplicates=[])
    known = remembered(tmp_path / "out.h5")
    assert known.of(source("a.mp4", file=str(file))) == Outcome("a.mp4", looks, "0" * 32, cpu={"decode": 1.0})
    assert known.of(source("b.mp4", file=str(file))) is None  # another file has its name now
    assert known.of(source("c.mp4", file=str(file))) is None
    os.utime(file, (1, 1))
    assert known.of(source("a.mp4", file=str(file))) is None


def test_a_report_that_cannot_be_read_is_as_good_as_none(tmp_path):
    assert remembered(tmp_path / "out.h5").of(source("a")) is None
    for text in ("", "{", "[]", '{"videos": 5}', '{"videos": [{"path": "a"}]}', '{"videos": [7]}', "\xff"):
        report_path(tmp_path / "out.h5").write_bytes(text.encode("latin-1"))
        assert remembered(tmp_path / "out.h5").of(source("a")) is None


def test_a_report_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    write_report(tmp_path / "out.h5", [row(outcome("a"), FACTS)], progress=Progress(), duplicates=[])
    before = report_path(tmp_path / "out.h5").read_text()
    monkeypatch.setattr(files, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_report(tmp_path / "out.h5", [], progress=Progress(), duplicates=[])
    assert os.listdir(tmp_path) == ["out.report.json"]
    assert report_path(tmp_path / "out.h5").read_text() == before


def test_the_curve_of_throughput_rises_and_stays_short_however_many_videos_there_are():
    progress = Progress()
    for number in range(4801):  # the last one halves the curve
        progress.add(outcome(str(number), cpu={"decode": 0.5}))
    times, counts = zip(*progress.curve, strict=True)
    assert POINTS <= len(counts) <= 2 * POINTS
    assert list(counts) == sorted(set(counts)) and counts[-1] == 4801
    assert list(times) == sorted(times)
    assert progress.done == 4801 and progress.cpu["decode"] == 2400.5


def notes_of(*sources: Source) -> list[str]:
    """The notes about sources whose contents are their files."""
    outcomes = {one.path: outcome(one.path, one.file) for one in sources}
    return duplicate_notes(find_duplicates(sources, outcomes))


def test_equal_files_are_noted_and_files_that_are_not_are_not():
    assert notes_of(source("a"), source("b")) == []
    (note,) = notes_of(source("a", file="x"), source("b", file="x"), source("c", file="x"), source("d"))
    assert "b = a" in note


@pytest.mark.parametrize("name", ["label", "split"])
def test_equal_files_that_contradict_each_other_are_a_warning_that_names_both(name):
    pair = [source("a", file="x", **{name: "one"}), source("b", file="x", **{name: "two"})]
    _, warning = notes_of(*pair, source("c", file="x", **{name: "one"}), source("d", file="y"))
    assert warning.startswith("warning: ") and name in warning and "a is one, b is two" in warning
    assert notes_of(pair[0], source("b", file="x", **{name: "one"}))[1:] == []


@pytest.mark.parametrize("content", [None, "0" * 32])
def test_files_that_cannot_be_used_are_nobodys_duplicates(content):
    """A hundred empty files in many classes contradict nothing."""
    sources = [source("a", label="one"), source("b", label="two")]
    outcomes = {one.path: outcome(one.path, content, reason="corrupt: x") for one in sources}
    assert find_duplicates(sources, outcomes) == []


def test_a_run_ends_with_one_line_of_what_it_did(capsys):
    progress = Progress()
    progress._start -= 10
    progress.add(outcome("a", cpu={"flow": 6.0, "decode": 3.0, "mel": 0.9, "digest": 0.1}))
    print_run(progress, 2)
    (line,) = capsys.readouterr().out.splitlines()
    for number in ("10.0 s", "0.1 a second", "2 kept", "flow 60%", "decode 30%", "mel 9%"):
        assert number in line


def test_stages_are_told_with_their_shares(capsys):
    print_stages(Counter(flow=3.0, decode=1.0))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["flow", "3.0", "s", "75.0%"] in rows and ["decode", "1.0", "s", "25.0%"] in rows
    print_stages(Counter())


def test_notes_on_videos_are_told_once_a_kind_with_their_number():
    found = notes_on_videos([("a", "x; y"), ("b", ""), ("c", "y")])
    assert [note.split(" (")[0] for note in found] == ["x", "y"]
    assert "2 videos" in found[1] and "first: a" in found[1]
