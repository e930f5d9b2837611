"""Many videos on many cores: spawned workers of one thread each, and what to do when one of them dies."""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from preprocess.catalog import Source
from preprocess.piece import PieceSettings, extract_piece
from preprocess.progress import progress
from preprocess.stopwatch import Stopwatch
from preprocess.store import Rejected, Video

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Done:
    """What became of one video."""

    piece: Path  # is there if the outcome is a Video
    outcome: Video | Rejected
    seconds: Counter[str]  # by stage


def run_all(sources: Sequence[Source], folder: Path, settings: PieceSettings, *, workers: int) -> Iterator[Done]:
    """Extract every source into a piece in `folder`; give out what became of each as they get done.

    A video whose decoder kills its process is rejected; those that were at work beside it are done again.
    """
    jobs = [(source, folder / f"{number:08d}.piece") for number, source in enumerate(sources)]
    workers = min(workers, len(jobs))
    with progress(total=len(jobs), unit="video", name="extract") as bar:
        suspects = []
        todo = iter(jobs)
        while True:
            broken = []
            for job, done in _run(todo, settings, workers=workers):
                if done is None:
                    broken.append(job)
                else:
                    bar.update()
                    yield done
            if not broken:
                break
            suspects += broken  # the pool is gone; `todo` holds what it had not taken
        for job in suspects:  # alone, so that it is known whose fault a death is
            _, done = next(_run(iter([job]), settings, workers=1))
            bar.update()
            source, piece = job
            yield done or Done(piece, Rejected(source.path, "crashed: decoding it ends the process"), Counter())


def _run(
    jobs: Iterator[tuple[Source, Path]], settings: PieceSettings, *, workers: int
) -> Iterator[tuple[tuple[Source, Path], Done | None]]:
    """Give out (job, what became of it) as they get done; None for each that was in flight when a worker died."""
    with _one_thread_each():
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
        running: dict[Future, tuple[Source, Path]] = {}
        try:
            dead = False
            while True:
                while not dead and len(running) < 2 * workers and (job := next(jobs, None)) is not None:
                    try:
                        with _ctrl_c_later():
                            running[pool.submit(_work, *job, settings)] = job
                    except BrokenProcessPool:
                        dead = True
                        yield job, None
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        yield job, future.result()
                    except BrokenProcessPool:
                        dead = True
                        yield job, None
        finally:  # also when the caller stops: what is in flight is given up
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Make this process a worker: it leaves Ctrl-C to its parent, dies with it, and uses one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(source: Source, piece: Path, settings: PieceSettings) -> Done:
    watch = Stopwatch()
    try:
        outcome = extract_piece(source, piece, settings, watch)
    except OSError as error:
        if error.filename != source.file and error.errno is not None:
            raise  # the disk is full, the folder is gone: not this video's fault
        outcome = Rejected(source.path, f"cannot be read ({error.strerror or error})")
    except Exception as error:  # whatever a hostile file makes of a decoder costs that file alone
        outcome = Rejected(source.path, f"failed: {type(error).__name__}: {error}")
    return Done(piece, outcome, watch.seconds)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they must be whole before they are given up, and never get it."""
    pressed = threading.Event()
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a new process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if pressed.is_set():
        raise KeyboardInterrupt


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Libraries read these when they are loaded, that is when a worker starts."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
