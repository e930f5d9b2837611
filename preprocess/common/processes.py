"""What processes take, and how they end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def memory_pages(pid: int) -> tuple[int, int] | None:
    """The pages of a process: (address space, resident in memory); None if it is gone, or this is not Linux."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            size, resident = file.read().split()[:2]
    except (OSError, ValueError):
        return None
    return int(size), int(resident)


def own_memory(pid: int) -> int:
    """Bytes in memory that are this process's own, and not shared with others; 0 if it is gone."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * PAGE


def family(pid: int) -> list[int]:
    """A process and all that it has started, and so on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in family(int(child)))]


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let this process get the signal `number` when the one that started it ends, however it ends.

    The kernel counts the end of the *thread* that started it: start processes from one that lasts.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    try:
        bound = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) == 0
    except (OSError, AttributeError):
        bound = False
    if not bound:  # not Linux: a thread does it, unless C code keeps it from running
        threading.Thread(target=lambda: (parent.join(), os.kill(os.getpid(), number)), daemon=True).start()
    elif os.getppid() != parent.pid:  # it was gone before the kernel knew what to do then
        os.kill(os.getpid(), number)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Libraries read these when they are loaded, and a process inherits them when it starts."""
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
