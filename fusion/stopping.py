"""Ending a run when it is asked to, between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopping:
    """Whether Ctrl-C or SIGTERM, which clusters send some time before they kill, has come."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator["Stopping"]:
        """The first signal asks; a second one of them interrupts as usual."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: object) -> None:
            self.asked = True
            signal.signal(number, signal.default_int_handler)

        try:
            for number in before:
                signal.signal(number, ask)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
