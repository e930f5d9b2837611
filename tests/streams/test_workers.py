"""Processes that read clips: what they share with the program, and when they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from tests.support.batches import assert_same, dataset_of, load, views_of
from tests.support.commands import ROOT, environment


def test_workers_read_rightly_though_the_parent_has_the_store_open(toy):
    dataset = dataset_of(toy)
    here = load(dataset, views_of(dataset, batch=4), workers=0)
    assert_same(here, load(dataset, views_of(dataset, batch=4), workers=2))
    assert_same(here, load(dataset, views_of(dataset, batch=4), workers=0))


def test_more_processes_than_cores_are_no_reason_for_a_warning(toy, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    dataset = dataset_of(toy)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        load(dataset, views_of(dataset, batch=4), workers=2)


def _descriptors_of(path) -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        link = f"/proc/self/fd/{name}"
        if os.path.exists(link) and os.path.samefile(link, path):
            found.add(int(name))
    return found


def _read_and_tell(store, pipe) -> None:
    inherited, used, pread = _descriptors_of(store.path), set(), os.pread

    def watched(handle: int, *where: int) -> bytes:
        used.add(handle)
        return pread(handle, *where)

    os.pread = watched
    batch = dataset_of(store).__getitems__([(0, 0), (1, 0)])
    pipe.send((inherited, used, {name: clips.sum().item() for name, clips in batch.clips["rgb"].items()}))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_file_descriptor_is_shared_across_a_fork(toy):
    """What the parent has read through is read through by nobody else, and stays open in the parent."""
    expected = dataset_of(toy).__getitems__([(0, 0), (1, 0)])
    mine = _descriptors_of(toy.path)
    assert len(mine) == 1
    context = multiprocessing.get_context("fork")
    for _ in range(2):
        pipe, end = context.Pipe(duplex=False)
        process = context.Process(target=_read_and_tell, args=(toy, end))
        process.start()
        end.close()
        inherited, used, sums = pipe.recv()
        process.join()
        assert process.exitcode == 0
        assert inherited == mine and used and not used & inherited
        assert sums == {name: clips.sum().item() for name, clips in expected.clips["rgb"].items()}
        assert _descriptors_of(toy.path) == mine
    again = dataset_of(toy).__getitems__([(0, 0), (1, 0)])
    assert_same([expected], [again])


def _alive(process: str) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


END = """
import sys, signal, os, time
from pathlib import Path
from preprocess.store import Store
from streams.batch import *
from streams.loader import *
from tests.support.batches import dataset_of
how = sys.argv[2]
store = Store(sys.argv[1])
dataset = dataset_of(store, seed=0)
iterator = iter(make_loader(dataset, EpochBatches(dataset, batch=1, seed=0), workers=1, pin=False))
next(iterator)
worker = iterator._workers[0].pid
if how == "signalled":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
        next(iterator)
print(worker, flush=True)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "raises":
    raise RuntimeError("on purpose")  # whose traceback holds the loader until the end
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("ends", 0), ("signalled", 0), ("raises", 1), ("killed", -signal.SIGKILL)])
def test_workers_end_when_the_program_ends_and_by_no_signal_of_others(toy, how, status):
    command = [sys.executable, "-c", END, str(toy.path), how]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        worker = process.stdout.readline().strip()
        assert process.wait(timeout=60) == status, process.stderr.read()
        process.stdout.read()  # the worker holds its other end
    until = time.monotonic() + 5  # it closes its files a moment before it is gone
    while _alive(worker) and time.monotonic() < until:
        time.sleep(0.01)
    assert worker and not _alive(worker)
