"""Stores joined to one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.merge import main, merge
from preprocess.store import Store
from preprocess.store.format import shard_folder
from preprocess.store.new_file import new_file, write_index
from preprocess.store.seal import write_seal
from tests.support.commands import assert_one_line_error, environment, run
from tests.support.runs import Killed, files, leftovers, run_here, streams
from tests.support.stores import Spec, make_store, three_bit

A = Spec("run/a.mp4", label="run", group="g1", split="train", frames=6)
B = Spec("jump/b.mp4", label="jump", frames=5)
C = Spec(os.fsdecode(b"run/\xff c.mp4"), label="run", frames=4, streams=("rgb",))


@pytest.fixture
def make(tmp_path):
    """A function that writes a store of videos under a name, and gives its path."""

    def write(name: str, *specs: Spec, **parameters) -> Path:
        return make_store(tmp_path / name, specs, **parameters).path

    return write


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "merged").mkdir()
    return tmp_path / "merged" / "out.h5"


def with_lists(path: Path, *, rejected=(), notes=()) -> Path:
    """The same store with other lists of what could not be used, and of notes."""
    from preprocess.store.index import Rejected

    store = Store(path)
    with new_file(path, parameters=store.parameters) as file:
        write_index(file, [], [Rejected(*row) for row in rejected], notes=notes)
    write_seal(path)
    return path


def test_the_result_holds_what_all_held_and_they_stay_as_they_were(make, out):
    one, two = make("one.h5", A, C), make("two.h5", B)
    before = one.read_bytes(), two.read_bytes()
    expected = streams(one) | streams(two)
    rows = sorted([*Store(one).videos, *Store(two).videos], key=lambda video: video.path)
    store = merge([one, two], out)
    assert store.videos == rows
    assert store.classes == ["jump", "run"]
    assert streams(out) == expected
    assert store.parameters == Store(one).parameters
    assert (one.read_bytes(), two.read_bytes()) == before
    assert list(check(out, decode=True)) == []
    assert leftovers(out) == []


def test_the_order_of_the_stores_changes_no_byte(make, out, tmp_path):
    one, two = make("one.h5", A, C), make("two.h5", B)
    merge([one, two], out, shard_bytes=7_000)
    (tmp_path / "again").mkdir()
    merge([two, one], tmp_path / "again" / "out.h5", shard_bytes=7_000)
    assert files(out) == files(tmp_path / "again" / "out.h5")
    assert len(Store(out).shards) == 2


def test_merging_into_shards_and_merging_shards_keeps_every_video(make, out, tmp_path):
    one = make("one.h5", *three_bit(8, frames=5))
    two = make("two.h5", *three_bit(8, prefix="w", frames=5))
    expected = streams(one) | streams(two)
    merge([one, two], out, shard_bytes=30_000)
    assert len(Store(out).shards) > 3
    assert streams(out) == expected
    assert list(check(out)) == []
    (tmp_path / "again").mkdir()
    again = merge([out], tmp_path / "again" / "out.h5", shard_bytes=1e9)
    assert again.shards == []
    assert streams(again.path) == expected


def test_a_video_that_is_in_several_stores_is_taken_once(make, out):
    one, two = make("one.h5", A, B), make("two.h5", A)
    store = merge([one, two], out)
    assert [video.path for video in store.videos] == ["jump/b.mp4", "run/a.mp4"]
    assert list(check(out)) == []


def test_the_same_content_under_two_paths_is_stored_once(make, out):
    copy = replace(A, path="run/copy.mp4", content=A.path)
    store = merge([make("one.h5", A), make("two.h5", copy)], out)
    assert [video.path for video in store.videos] == ["run/a.mp4", "run/copy.mp4"]
    assert store.videos[0].content == store.videos[1].content
    assert list(check(out)) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"content": "other"}, "content"),
        ({"label": "jump"}, "label"),
        ({"group": "g2"}, "group"),
        ({"split": "val"}, "split"),
    ],
)
def test_a_path_that_stands_for_two_things_is_refused(make, out, change, what):
    one, two = make("one.h5", A), make("two.h5", replace(A, **{"content": A.path} | change))
    with pytest.raises(UserError, match=rf"run/a\.mp4 .*one\.h5 .*two\.h5 .*{what}"):
        merge([one, two], out)
    assert not out.exists() and leftovers(out) == []


def test_stores_of_other_settings_are_refused_and_the_difference_is_shown(make, out):
    one, two = make("one.h5", A), make("two.h5", B, fps=10.0)
    with pytest.raises(UserError, match=r"one\.h5 .*two\.h5 .*fps 25\.0.* 10\.0"):
        merge([one, two], out)
    assert leftovers(out) == []


def test_what_no_store_could_use_is_listed_once_unless_another_could(make, out):
    one = with_lists(make("one.h5"), rejected=[("x.mp4", "corrupt"), ("run/a.mp4", "unreadable")], notes=["n", "m"])
    two = with_lists(make("two.h5"), rejected=[("x.mp4", "corrupt"), ("y.mp4", "not media")], notes=["m", "o"])
    store = merge([one, two, make("three.h5", A)], out)
    assert [(reject.path, reject.reason) for reject in store.rejected] == [("x.mp4", "corrupt"), ("y.mp4", "not media")]
    assert store.notes == ["n", "m", "o"]


def test_what_is_there_is_replaced_only_on_demand(make, out):
    one, two = make("one.h5", A), make("two.h5", B)
    merge([one], out)
    before = files(out)
    with pytest.raises(UserError, match=r"out\.h5 .*--overwrite"):
        merge([two], out)
    assert files(out) == before
    assert [video.path for video in merge([two], out, overwrite=True).videos] == ["jump/b.mp4"]
    assert list(check(out)) == []


def test_a_store_is_never_merged_into_itself(make, out):
    one, two = make("one.h5", A), make("two.h5", B)
    before = files(two)
    with pytest.raises(UserError, match=r"two\.h5"):
        merge([one, two], two, overwrite=True)
    assert files(two) == before


@pytest.mark.parametrize("missing", ["store", "shard", "folder"])
def test_what_is_missing_is_named_in_one_line(make, out, missing, monkeypatch, capsys):
    one = merge([make("one.h5", A, B)], out, shard_bytes=1).path
    target = out.parent / "all.h5"
    if missing == "store":
        result = run_here(monkeypatch, capsys, one, out.parent / "gone.h5", target, main=main)
        assert_one_line_error(result, "gone.h5")
    elif missing == "shard":
        shard = Store(one).shards[0]
        shard.unlink()
        assert_one_line_error(run_here(monkeypatch, capsys, one, target, main=main), shard.name)
    else:
        result = run_here(monkeypatch, capsys, one, out.parent / "none" / "all.h5", main=main)
        assert_one_line_error(result, "none")
    assert not target.exists()
    assert [name for name in leftovers(out) if "all" in name] == []


def test_a_merge_that_was_killed_goes_on_and_leaves_nothing_behind(make, out, monkeypatch, tmp_path):
    one = make("one.h5", *three_bit(8, frames=5))
    two = make("two.h5", *three_bit(8, prefix="w", frames=5))
    (tmp_path / "undisturbed").mkdir()
    merge([one, two], tmp_path / "undisturbed" / "out.h5", shard_bytes=30_000)
    with monkeypatch.context() as patch:
        patch.setattr("preprocess.store.writer.write_index", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            merge([one, two], out, shard_bytes=30_000)
    assert not out.exists() and list(shard_folder(out).iterdir())
    merge([one, two], out, shard_bytes=30_000)
    assert files(out) == files(tmp_path / "undisturbed" / "out.h5")
    assert leftovers(out) == []


def test_a_damaged_stream_is_refused_and_gets_into_no_other_store(make, out):
    one, two = make("one.h5", A), make("two.h5", B)
    data = bytearray(two.read_bytes())
    data[data.index(b"\xff\xd8") + 700] ^= 1  # the seal's digest is not computed again to merge; the checksum is
    two.write_bytes(data)
    with pytest.raises(UserError, match=r"two\.h5 .*rgb"):
        merge([one, two], out)
    assert not out.exists()


def test_the_command_joins_stores_and_needs_two_names(make, out):
    one, two = make("one.h5", A), make("two.h5", B)
    result = run("preprocess.merge", one, two, out)
    assert result.returncode == 0, result.stderr
    assert "out.h5: 2 videos" in result.stdout
    assert_one_line_error(run("preprocess.merge", one))


def test_merging_loads_nothing_that_decodes_pictures_or_solves_flow(make, out):
    code = (
        "import sys; from pathlib import Path; from preprocess.merge import merge;"
        "merge([Path(sys.argv[1])], Path(sys.argv[2]));"
        "print([name for name in ('librosa', 'torch', 'cv2', 'numba') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(make("one.h5", A)), str(out)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.replace("'", '"')) == []
