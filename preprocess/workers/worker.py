"""A worker's own side of the pool: do one job after the other, show signs of life, end with the parent."""

import ctypes
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
OUT_OF_MEMORY = 86  # the exit status that says so: nothing more can be sent by a process that has no memory left
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Signs(ctypes.Structure):
    """What a worker writes into shared memory, and the supervisor reads."""

    _fields_ = (("ticket", ctypes.c_int64), ("beats", ctypes.c_int64), ("seconds", ctypes.c_double))


class Pulse:
    """What the work function is given to show that it gets on."""

    def __init__(self, signs: Signs) -> None:
        self._signs = signs

    def beat(self, seconds: float) -> None:
        """I am alive, and this many seconds of the video's clock are done. Costs less than a microsecond."""
        self._signs.seconds = seconds
        self._signs.beats += 1

    def begin(self, ticket: int) -> None:
        """The job of this ticket is at work now."""
        self._signs.ticket = ticket  # before the seconds: a reader in between must not see an old job that did nothing
        self._signs.seconds = 0.0


def run_worker(connection: Connection, signs: Signs, payload: bytes, memory_mb: int | None) -> None:
    """Do the jobs that come, in their order.

    payload: the pickle of (work, warm_up). It is loaded here, where the process already ends with its parent.
    Sends ("ready",), then ("done", result) for each job; or ("raised", exception, traceback), and that is the end.
    """
    _belong_to_parent()
    pulse = Pulse(signs)
    try:
        work, warm_up = pickle.loads(payload)
        if warm_up is not None:
            warm_up()
        if memory_mb is not None:
            _limit_address_space(memory_mb)
        connection.send(("ready",))
        while True:
            ticket, job = connection.recv()
            pulse.begin(ticket)
            connection.send(("done", work(job, pulse)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        with suppress(OSError):  # the parent is gone
            connection.send(("raised", _portable(error), traceback.format_exc()))


def memory_pages(pid: int) -> tuple[int, int] | None:
    """The pages of a process: (address space, resident in memory); None if it is gone, or this is not Linux."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            size, resident = file.read().split()[:2]
    except (OSError, ValueError):
        return None
    return int(size), int(resident)


def _belong_to_parent() -> None:
    """Leave Ctrl-C to the parent, and die with it, even stuck in C code or while it was killed itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # the parent spawns with both blocked
    parent = multiprocessing.parent_process()
    assert parent is not None
    try:
        # The signal comes when the *thread* that spawned this process ends: supervise() must stay in one that lasts.
        bound = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (OSError, AttributeError):
        bound = False
    if not bound:  # not Linux: a thread does it, unless C code keeps it from running
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    elif os.getppid() != parent.pid:  # it was gone before the kernel knew what to do then
        os._exit(1)


def _limit_address_space(megabytes: int) -> None:
    """Let this process take so much beyond what it has now; a lower limit that it was started with stays."""
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
