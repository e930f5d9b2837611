"""Jobs that hang, crash and grow on purpose. A worker loads this file to do them."""

import ctypes
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

from preprocess.common.processes import ONE_THREAD
from preprocess.workers.pool import WorkerLimits
from preprocess.workers.worker import Heartbeat

STALL = 1.5  # seconds; more than a busy machine keeps a process waiting
SMALL = WorkerLimits(stall_seconds=STALL, memory_mb=200)
BLOCK = 4 << 20  # numbers: 32 MB
HELD = []  # memory


def act(job: tuple, heartbeat: Heartbeat) -> object:
    """The work of every test: job = (name of a function below, its arguments)."""
    name, *arguments = job
    return globals()[name](heartbeat, *arguments)


def say(heartbeat, value):
    return value


def nap(heartbeat, seconds, *_):
    time.sleep(seconds)
    return os.getpid()


def die(heartbeat, way, *_):
    assert multiprocessing.parent_process() is not None, "this is the test's own process"
    if way == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, way))
    time.sleep(1000)


def die_once(heartbeat, marker):
    if not os.path.exists(marker):
        Path(marker).touch()
        die(heartbeat, "SIGKILL")
    return "done"


def die_after_the_result(heartbeat, log):
    with open(log, "a") as file:
        file.write("done\n")
    threading.Timer(0.3, os._exit, [1]).start()  # the result is sent by then
    return "done"


def hang(heartbeat, way):
    heartbeat.beat(0.1)
    if way == "in C":
        ctypes.PyDLL(None).sleep(1000)  # and nobody else has the GIL
    elif way == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def crawl(heartbeat, seconds, *_):
    """Work for so long, three times slower than the video's own clock."""
    end = time.monotonic() + seconds
    for step in range(1_000_000):
        heartbeat.beat(step / 30)
        time.sleep(0.1)
        if time.monotonic() > end:
            break
    return "done"


def stroll(heartbeat, log):
    """Give a sign of life every second."""
    with open(log, "a") as file:
        file.write("begun\n")
    for step in range(3):
        time.sleep(1)
        heartbeat.beat(step)
    return "done"


def meet(heartbeat, folder, name, number):
    """Wait until so many jobs are at work."""
    Path(folder, name).touch()
    for step in range(200):
        if len(os.listdir(folder)) == number:
            return "met"
        heartbeat.beat(step)
        time.sleep(0.1)
    return "alone"


def drip(heartbeat):
    for step in range(1000):
        heartbeat.beat(step / 1000)
        time.sleep(0.1)
    return "done"


def grow(heartbeat, blocks):
    import numpy as np

    held = []
    for step in range(blocks):
        held.append(np.ones(BLOCK))
        heartbeat.beat(step)
        time.sleep(0.05)
    return "done"


def fail(heartbeat, error):
    raise error


def fail_oddly(heartbeat):
    raise OddError("first", "second")


def limits(heartbeat):
    return resource.getrlimit(resource.RLIMIT_AS)


def threads(heartbeat):
    return [os.environ.get(name) for name in ONE_THREAD]


class OddError(Exception):
    """Can be pickled, and not be loaded."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def warm_up_large():
    import numpy as np

    HELD.append(np.ones(10 * BLOCK))
