"""Ending a run when it is asked to, between two steps."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 3.0  # seconds: torchrun hands on the signal that the terminal has sent to its processes too


class Stopping:
    """Whether Ctrl-C or SIGTERM, which clusters send some time before they kill, has come."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator["Stopping"]:
        """The first signal asks; another, some seconds later, interrupts as usual."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        first = None

        def ask(number: int, frame: object) -> None:
            nonlocal first
            self.asked = True
            first = time.monotonic() if first is None else first
            if time.monotonic() - first > AGAIN:
                signal.default_int_handler(number, frame)

        try:
            for number in before:
                signal.signal(number, ask)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
