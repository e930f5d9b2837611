"""Processes: their memory, and their end together with the process that started them."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def memory_pages(pid: int) -> tuple[int, int] | None:
    """The pages of a process: (address space, resident in memory); None if it has ended, or this is not Linux."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            size, resident = file.read().split()[:2]
    except (OSError, ValueError):
        return None
    return int(size), int(resident)


def own_memory(pid: int) -> int:
    """Bytes of memory that a process does not share with others; 0 if it has ended."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * PAGE


def available_memory() -> float:
    """Bytes of memory that may still be taken: of the machine, or of this process's control group, if that is less.

    Infinity where the system does not tell.
    """
    least = float("inf")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        least = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024.0
    with suppress(OSError, ValueError, StopIteration):  # "max" is no number: there is no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (group / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("file "))
        least = min(least, limit - used + cached)
    return least


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in family(int(child)))]


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let this process get the signal `number` when its parent ends, however it ends.

    For the kernel the parent is the *thread* that started it: start processes from a thread that lasts.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    try:
        bound = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) == 0
    except (OSError, AttributeError):
        bound = False
    if not bound:  # not Linux: a thread watches the parent, unless C code keeps it from running
        threading.Thread(target=lambda: (parent.join(), os.kill(os.getpid(), number)), daemon=True).start()
    elif os.getppid() != parent.pid:  # the parent ended before the kernel was told
        os.kill(os.getpid(), number)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Make libraries in processes started here use one thread: they read these variables when they are loaded."""
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
