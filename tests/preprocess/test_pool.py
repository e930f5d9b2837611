"""Many videos on many processes: what one of them does costs that one alone."""

import multiprocessing
import os
import signal

import pytest

from preprocess.catalog import Source
from preprocess.piece import PieceSettings
from preprocess.pool import ONE_THREAD, run_all
from preprocess.store import Rejected, Video
from tests.videos import drift, write_video

SETTINGS = PieceSettings(short_side=32)


class Deadly:
    """A source whose file ends the process that opens it, as a decoder with a bug or the kernel's OOM killer does."""

    label = group = split = None

    def __init__(self, path: str, way: str) -> None:
        self.path = path
        self.way = way

    @property
    def file(self) -> str:
        assert multiprocessing.parent_process() is not None, "this is the test's own process"
        if self.way == "exit":
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, self.way))
        raise AssertionError("still alive")


class Failing(Deadly):
    """A source whose file raises what no decoder should."""

    @property
    def file(self) -> str:
        raise ZeroDivisionError("a bug in a decoder")


class Threads(Deadly):
    """A source that looks at how many threads its process may use."""

    @property
    def file(self) -> str:
        import cv2
        import torch

        counts = {name: os.environ.get(name) for name in ONE_THREAD}
        raise RuntimeError(f"threads: {cv2.getNumThreads()} {torch.get_num_threads()} {sorted(set(counts.values()))}")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A function that gives sources of a video that can be used."""
    path = write_video(tmp_path_factory.mktemp("good") / "a.mp4", drift(3))
    return lambda *names: [Source(str(path), name, "run", None, None) for name in names]


def outcomes(sources, folder, *, workers: int) -> dict[str, str | None]:
    """Path → None for a video that could be used, else the reason why not."""
    found = {}
    for done in run_all(sources, folder, SETTINGS, workers=workers):
        assert done.outcome.path not in found
        assert done.piece.exists() == isinstance(done.outcome, Video)
        found[done.outcome.path] = done.outcome.reason if isinstance(done.outcome, Rejected) else None
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("way", "workers"), [("SIGKILL", 2), ("exit", 1)])
def test_a_worker_that_dies_costs_the_video_that_killed_it_alone(good, tmp_path, way, workers):
    sources = [*good("a", "b"), Deadly("deadly", way), *good("c", "d", "e", "f")]
    found = outcomes(sources, tmp_path, workers=workers)
    assert "crashed" in found.pop("deadly")
    assert found == dict.fromkeys("abcdef")


def test_an_error_in_a_decoder_costs_its_own_video(good, tmp_path):
    sources = [Failing("bug", ""), *good("a"), Threads("threads", ""), *good("b")]
    found = outcomes(sources, tmp_path, workers=2)
    assert "ZeroDivisionError" in found.pop("bug")
    assert "threads: 1 1 ['1']" in found.pop("threads")  # workers share the cores by number, not by thread
    assert found == {"a": None, "b": None}


def test_a_full_or_missing_disk_ends_the_run_and_is_no_videos_fault(good, tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        outcomes(good("a"), tmp_path / "gone", workers=1)


def test_a_run_that_is_given_up_leaves_no_worker_and_no_trace_in_the_environment(good, tmp_path):
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    running = run_all(good(*"abcdef"), tmp_path, SETTINGS, workers=1)
    assert isinstance(next(running).outcome, Video)
    running.close()
    assert multiprocessing.active_children() == []
    assert {name: os.environ.get(name) for name in ONE_THREAD} == before
