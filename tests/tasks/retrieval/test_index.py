"""python -m tasks.index and tasks.search, on real files with a tiny run."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.extract import extract
from preprocess.extraction.settings import ExtractSettings
from preprocess.video.settings import PieceSettings
from tasks.index import main as index_main
from tasks.retrieval.index import TABLE, Index, open_writer
from tasks.search import main as search_main
from tests.support.commands import assert_one_line_error, command, environment
from tests.support.runs import run_here


@pytest.fixture(scope="module")
def index(run_folder, videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found") / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["command", str(run_folder), str(videos), str(folder), "--length", "0.4"])
        assert index_main() == 0
    return folder


def test_a_video_finds_itself_first_and_where(index, videos, monkeypatch, capsys):
    result = run_here(monkeypatch, capsys, index, videos / "both.mkv", "--json", main=search_main)
    (answer,) = json.loads(result.stdout)
    first = answer["found"][0]
    assert first["video"] == "both.mkv" and first["similarity"] == pytest.approx(1, abs=2e-3)
    assert first["time"] == first["query_time"]
    part = run_here(
        monkeypatch, capsys, index, videos / "both.mkv", "--from", 1.0, "--to", 1.3, "--json", main=search_main
    )
    begin, end = json.loads(part.stdout)[0]["found"][0]["query_time"]
    assert begin < 1.3 and end > 1.0


def test_a_muted_copy_is_found_by_what_is_left_and_streams_and_weights_choose(index, videos, monkeypatch, capsys):
    for options, says in ((("--by", "class"), "both.mkv"), (("--streams", "flow"), ""), (("--weights", "rgb=2"), "")):
        result = run_here(monkeypatch, capsys, index, videos / "mute.mkv", *options, main=search_main)
        assert result.returncode == 0 and "mute.mkv" in result.stdout and says in result.stdout
    silent = run_here(monkeypatch, capsys, index, videos / "mute.mkv", "--streams", "audio", main=search_main)
    assert_one_line_error(silent, "audio", status=1)


def test_what_is_there_is_not_done_again_and_more_is_added(index, run_folder, videos, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(index, tmp_path / "index")
    one = shutil.copy(videos / "one.mkv", tmp_path / "again.mkv")
    result = run_here(monkeypatch, capsys, run_folder, videos, one, folder, "--length", 0.4, main=index_main)
    assert result.returncode == 0 and " 0 added" in result.stdout
    assert len(Index(folder).videos) == len(Index(index).videos)


def test_every_video_asks_the_others_and_a_page_shows_stills(index, tmp_path, monkeypatch, capsys):
    out, page = tmp_path / "all.json", tmp_path / "all.html"
    result = run_here(monkeypatch, capsys, index, "--ranking", out, "--page", page, main=search_main)
    assert result.returncode == 0
    ranking = json.loads(out.read_text())
    names = {video.path for video in Index(index).videos}
    assert set(ranking) == names
    assert all({*found} | {name} == names and len(found) == len(names) - 1 for name, found in ranking.items())
    assert page.read_text().count("data:image/jpeg") >= len(names)
    assert (
        run_here(monkeypatch, capsys, index, "--streams", "audio", "--ranking", out, main=search_main).returncode == 0
    )
    assert set(json.loads(out.read_text())) == names - {"mute.mkv"}


def test_what_a_killed_process_left_is_cut_off(index, tmp_path):
    folder = shutil.copytree(index, tmp_path / "index")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    for name in before.keys() - {"index.json"}:
        with open(folder / name, "ab") as file:
            file.write(b"half of a vid")
    assert len(Index(folder)) == len(Index(index))
    with open_writer(folder, Index(folder).about):
        pass
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"} == before


def test_removed_videos_are_found_no_more_also_after_a_kill_and_can_be_added_again(
    index, run_folder, videos, tmp_path, monkeypatch, capsys
):
    folder, out = shutil.copytree(index, tmp_path / "index"), tmp_path / "all.json"
    there = folder / "rgb.there.u8"
    before = there.read_bytes()
    names = {video.path for video in Index(index).held}
    result = run_here(monkeypatch, capsys, folder, "--remove", "o*.mkv", main=index_main)
    assert result.returncode == 0 and "one.mkv" in result.stdout
    gone = {name for name in names if name.startswith("o")}
    killed = there.read_bytes()
    there.write_bytes(before)  # as if killed after the line of the table
    for _ in range(2):
        assert {video.path for video in Index(folder).held} == names - gone
        run_here(monkeypatch, capsys, folder, "--ranking", out, main=search_main)
        ranking = json.loads(out.read_text())
        assert set(ranking) == names - gone and not any(gone & {*found} for found in ranking.values())
        with open_writer(folder, Index(folder).about):
            pass  # ends what was begun
    assert there.read_bytes() == killed != before
    result = run_here(monkeypatch, capsys, run_folder, videos, folder, "--length", 0.4, main=index_main)
    assert f" {len(gone)} added" in result.stdout
    found = run_here(monkeypatch, capsys, folder, videos / "one.mkv", "--json", main=search_main)
    likeness = {one["video"]: one["similarity"] for one in json.loads(found.stdout)[0]["found"]}
    assert likeness["one.mkv"] == pytest.approx(1, abs=2e-3)


def test_videos_whose_files_are_gone_are_removed_when_that_is_asked(run_folder, videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "some").mkdir()
    for name in ("one.mkv", "mute.mkv"):
        shutil.copy(videos / name, tmp_path / "some" / name)
    folder = tmp_path / "index"
    run_here(monkeypatch, capsys, run_folder, tmp_path / "some", folder, "--length", 0.4, main=index_main)
    (tmp_path / "some/mute.mkv").unlink()
    result = run_here(monkeypatch, capsys, folder, "--remove-missing", main=index_main)
    assert result.returncode == 0 and [video.path for video in Index(folder).held] == ["one.mkv"]


def test_a_store_gives_the_index_of_its_videos(index, toy, run_folder, videos, tmp_path, monkeypatch, capsys):
    piece = PieceSettings.like(toy.parameters)
    store = extract(ExtractSettings(videos, tmp_path / "s.h5", store=piece))
    result = run_here(monkeypatch, capsys, run_folder, store.path, tmp_path / "index", "--length", 0.4, main=index_main)
    assert result.returncode == 0
    one, other = (
        {video.path: made.described(video.rows) for video in made.videos}
        for made in map(Index, (index, tmp_path / "index"))
    )
    assert one.keys() == other.keys()
    for path, windows in other.items():
        same = one[path]
        np.testing.assert_allclose(windows.times, same.times)
        for name, values in windows.vectors.items():
            np.testing.assert_allclose(values, same.vectors[name], atol=2e-3)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_with_the_same_index(index, run_folder, videos, tmp_path):
    folder = tmp_path / "index"
    asked = command("tasks.index", run_folder, videos, folder, "--length", 0.4, "--device", "cpu")
    for _ in range(40):
        process = subprocess.Popen(asked, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
        table, held = folder / TABLE, len(Index(folder).videos) if (folder / "index.json").exists() else 0
        while process.poll() is None and not (table.exists() and len(Index(folder).videos) > held):
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() == 0:
            break
    assert process.returncode == 0
    for path in index.iterdir():
        assert path.name == "lock" or path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_wrong_input_is_one_line_and_leaves_nothing(index, run_folder, videos, tmp_path, monkeypatch, capsys):
    def ask(*arguments, main):
        return run_here(monkeypatch, capsys, *arguments, main=main)

    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    for arguments, says in (
        ((run_folder, videos), "index/"),
        ((run_folder, videos, tmp_path / "other"), "holds other files"),
        ((run_folder, videos, tmp_path / "no/index"), "no"),
        ((run_folder, videos, index, "--length", "0.8"), "length"),
        ((run_folder, tmp_path / "other", tmp_path / "new"), "no video"),
        ((index, "--remove", "nothing*"), "nothing*"),
        ((run_folder, "--remove", "one.mkv"), "no index"),
        ((run_folder, index, "--remove", "one.mkv"), "INDEX --remove"),
    ):
        assert_one_line_error(ask(*arguments, main=index_main), says)
    query = videos / "one.mkv"
    for arguments, says in (
        ((tmp_path, query), "no index"),
        ((index, query, "--streams", "smell"), "smell"),
        ((index, query, "--weights", "rgb=-1"), "rgb=1"),
        ((index, query, "--from", "3", "--to", "2"), "--to 2"),
        ((index, query, "--page", tmp_path / "no/a.html"), "--page"),
        ((index,), "--ranking"),
    ):
        assert_one_line_error(ask(*arguments, main=search_main), says)
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


def test_an_index_of_another_model_is_refused(index, run_folder, videos, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(index, tmp_path / "index")
    about = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(about | {"model_digest": "0" * 32}))
    with pytest.raises(UserError, match="model"), open_writer(folder, Index(index).about):
        pass
    result = run_here(monkeypatch, capsys, folder, videos / "one.mkv", main=search_main)
    assert_one_line_error(result, "another model")
    (folder / "index.json").write_text(json.dumps(about | {"model": str(tmp_path / "gone.safetensors")}))
    assert_one_line_error(run_here(monkeypatch, capsys, folder, videos / "one.mkv", main=search_main), "gone")
