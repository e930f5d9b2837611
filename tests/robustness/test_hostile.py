"""A short form of tests/robustness/hostile.py: hostile files cost themselves alone, by the real command line."""

import shutil
import subprocess
import sys

import pytest

from tests.preprocess.video.test_limits import write_large
from tests.robustness import oracle, traps
from tests.robustness.hostile import Run, attacked, bombed, mutated, silent
from tests.robustness.mutants import FPS, Mutant, write_mutants, write_original
from tests.support.commands import run
from tests.support.videos import drift, write_video


@pytest.mark.slow
def test_mutated_files_cost_themselves_alone_and_are_not_short_in_silence(tmp_path):
    result, figures = mutated(tmp_path, count=60, seed=7, workers=2, show=False)
    assert not result.faults
    assert figures["files"] == 60
    assert min(figures[status] for status in ("used", "truncated", "rejected")) > 3


@pytest.mark.slow
def test_files_that_lead_elsewhere_lead_nowhere(tmp_path):
    result, figures = attacked(tmp_path, workers=2, show=False)
    assert not result.faults
    assert figures["rejected"] > 30 and figures["used"] > 15
    assert figures["system_calls_looked_at"] > 1000 or not traps.can_trace()


@pytest.mark.slow
def test_bombs_are_refused_for_what_they_are(tmp_path):
    result, figures = bombed(tmp_path, workers=2, quick=True, show=False)
    assert not result.faults
    assert any(reason.startswith("too large") for reason in figures["reasons"])


@pytest.mark.slow
def test_a_video_that_needs_too_much_memory_is_too_large_and_not_damaged(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    write_large(videos / "large.mp4", 6000)
    write_video(videos / "small.mp4", drift(10))
    result = run("preprocess.extract", videos, tmp_path / "out.h5", "--memory-mb", 60, "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert "large.mp4: too large: " in result.stdout


def test_equal_seeds_make_equal_mutants(tmp_path):
    original = write_original("mkv", tmp_path / "a", frames=FPS, seed=0)
    for turn in ("a", "b"):
        write_mutants(tmp_path / turn, [original], count=12, seed=3)
    made = {
        turn: {p.relative_to(tmp_path / turn): p.read_bytes() for p in (tmp_path / turn).rglob("*.mkv")}
        for turn in "ab"
    }
    assert len(made["a"]) == 12 and made["a"] == made["b"]
    assert original.content not in made["a"].values()


def test_control_the_oracle_knows_how_long_a_whole_file_is_and_sees_one_that_is_short_in_silence(tmp_path):
    original = write_original("mkv", tmp_path / "a", frames=2 * FPS, seed=0)
    said = oracle.ask([str(tmp_path / "a.mkv"), str(tmp_path / "gone.mkv")])
    assert said[str(tmp_path / "gone.mkv")] is None
    whole = said[str(tmp_path / "a.mkv")]
    assert whole["packets"] == pytest.approx(2 - 1 / FPS, abs=0.01) and whole["decoded"] == whole["packets"]
    for seconds, faults in ((2.0, 0), (1.0, 1)):
        result = Run(0, "", 1.0, [{"path": "a.mkv", "status": "used", "reason": None, "seconds": seconds, "took": 0.1}])
        figures = silent([Mutant("a.mkv", original, "not at all")], result, {"a.mkv": whole})
        assert len(result.faults) == figures["short_unmarked_and_revealed"] == faults


READ_WRITE_CALL = """
import socket, sys
open(sys.argv[1], "rb").read()
open(sys.argv[2], "wb").write(b"x")
open(sys.argv[3], "wb").write(b"x")
socket.socket().connect_ex(("127.0.0.1", 9))
"""


def test_control_a_process_that_reads_writes_and_calls_where_it_should_not_is_seen(tmp_path):
    if not traps.can_trace():
        pytest.skip("no strace, or it may not trace")
    for name in ("outside", "out", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside/secret").write_text("x")
    files = [tmp_path / name for name in ("outside/secret", "out/allowed", "elsewhere/forbidden")]
    command = [*traps.tracer(tmp_path / "log"), sys.executable, "-B", "-c", READ_WRITE_CALL, *files]
    subprocess.run([str(part) for part in command], check=True, timeout=60)
    trap = traps.Traps(tmp_path / "videos", tmp_path / "outside")
    found = traps.trespasses((tmp_path / "log").read_text().splitlines(), trap, out=tmp_path / "out/out.h5")
    assert len(found) == 3
    for sign, call in zip(("outside/secret", "elsewhere/forbidden", "AF_INET"), found, strict=True):
        assert sign in call


def test_control_a_file_that_changes_beside_the_output_is_seen(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "a").write_text("x")
    before = traps.looks(tmp_path, but=tmp_path / "out")
    (tmp_path / "out/b").write_text("x")
    assert traps.looks(tmp_path, but=tmp_path / "out") == before
    shutil.copy(tmp_path / "a", tmp_path / "c")
    assert traps.looks(tmp_path, but=tmp_path / "out") != before


def test_a_run_that_goes_wrong_says_everything_that_is_wrong():
    row = {"path": "a", "status": "used", "reason": None, "seconds": 1.0, "took": 500.0}
    strange = {"path": "b", "status": "rejected", "reason": "bad luck: who knows", "took": 0.0}
    result = Run(2, "Traceback (most recent call last)", 1.0, [row, row, strange], peak_worker=10_000.0)
    result.check({"a", "b", "c"})
    said = "\n".join(result.faults)
    for sign in ("status 2", "2 times", "'c'", "bad luck", "500", "10000 MB"):
        assert sign in said
