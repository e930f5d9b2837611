"""What the tests of all rooms share."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# A shell that starts the tests in the background has them ignore it, and all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"  # real videos, not part of the repository


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A function that gives the path of a file or folder of the real data; the test is skipped without it."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"the real data are not here: no {name} in ../shared/data beside the repository")
        return path

    return find


@pytest.fixture(scope="module")
def one_thread():
    """Sums over two threads are other sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
