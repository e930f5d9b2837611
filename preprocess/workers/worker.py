"""The worker's side of the pool: do one job after the other, send heartbeats, end with the parent."""

import ctypes
import os
import pickle
import resource
import signal
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

from preprocess.common.processes import PAGE, end_with_parent, memory_pages

OUT_OF_MEMORY = 86  # exit status: a process without memory can send no message


class SharedState(ctypes.Structure):
    """Shared memory that a worker writes and the supervisor reads."""

    _fields_ = (("ticket", ctypes.c_int64), ("beats", ctypes.c_int64), ("seconds", ctypes.c_double))


class Heartbeat:
    """Given to the work function, which calls `beat` to show progress."""

    def __init__(self, signs: SharedState) -> None:
        self._signs = signs

    def beat(self, seconds: float) -> None:
        """Record that this many seconds of the video are done. Takes less than a microsecond."""
        self._signs.seconds = seconds
        self._signs.beats += 1

    def begin(self, ticket: int) -> None:
        """Record that the job of this ticket has begun."""
        self._signs.ticket = ticket  # before the seconds: a reader must not see the old ticket with no seconds
        self._signs.seconds = 0.0


def run_worker(connection: Connection, signs: SharedState, payload: bytes, memory_mb: int | None) -> None:
    """Do jobs in the order in which they arrive.

    payload: the pickle of (work, warm_up). It is loaded here, where the process already ends with its parent.
    Sends ("ready",), then ("done", result) for each job; or ("raised", exception, traceback), and that is the end.
    """
    _belong_to_parent()
    heartbeat = Heartbeat(signs)
    try:
        work, warm_up = pickle.loads(payload)
        if warm_up is not None:
            warm_up()
        if memory_mb is not None:
            _limit_address_space(memory_mb)
        connection.send(("ready",))
        while True:
            ticket, job = connection.recv()
            heartbeat.begin(ticket)
            connection.send(("done", work(job, heartbeat)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        with suppress(OSError):  # the parent has ended
            connection.send(("raised", _portable(error), traceback.format_exc()))


def _belong_to_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, even if stuck in C code or if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # the parent spawns with both blocked
    end_with_parent()


def _limit_address_space(megabytes: int) -> None:
    """Limit this process's memory to what it has now plus `megabytes`; a lower inherited limit stays."""
    pages = memory_pages(os.getpid())
    if pages is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        finite = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([pages[0] * PAGE + (megabytes << 20), *finite]), hard))


def _portable(error: Exception) -> Exception:
    """The exception itself if it survives a pipe, else its text."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
