"""The highest memory of a command and of all the processes that it starts."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.common.processes import family, own_memory

ROOT = Path(__file__).resolve().parents[1]
EVERY = 0.2  # s


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    seconds: float
    memory_mb: float  # not shared, at its highest, of all processes together
    output: str


def measure(arguments: Sequence[object]) -> Measured:
    """Run this Python with `arguments`, from the repository, to its end.

    Raises RuntimeError if it fails.
    """
    begun, peak = time.monotonic(), 0
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(EVERY):
            peak = max(peak, sum(map(own_memory, family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return Measured(time.monotonic() - begun, peak / 1e6, output)
