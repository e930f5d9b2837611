"""Stopping on a signal, at a safe point.

Ctrl-C raises an exception by default, and Python drops one that is raised in a destructor or a weak reference's
callback: the run goes on as if nothing had happened. A flag is not lost.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 3.0  # seconds: torchrun forwards a signal that the terminal has already sent to its processes


class Stopping:
    """A flag that Ctrl-C or SIGTERM sets; clusters send SIGTERM some time before they kill."""

    def __init__(self, *, answer: str = "") -> None:
        """answer: a line to write to stderr as soon as a signal arrives."""
        self.asked = False
        self._answer = answer

    @contextmanager
    def listening(self) -> Iterator["Stopping"]:
        """Handle signals: the first sets the flag; another, some seconds later, raises KeyboardInterrupt as usual."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
            yield self
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

        first = None

        def ask(number: int, frame: object) -> None:
            nonlocal first
            self.asked = True
            if first is None:
                first = time.monotonic()
                if self._answer:
                    os.write(2, f"\n{self._answer}\n".encode())  # print may have been interrupted
            elif time.monotonic() - first > AGAIN:
                signal.default_int_handler(number, frame)

        try:
            for number in before:
                signal.signal(number, ask)
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal has arrived."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def signals_later() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back while processes start or end; a process that starts inherits that."""
    came: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # others have no handlers
        # A blocked signal may reach another thread; Python would still handle it in this one.
        handlers = {stop: signal.signal(stop, lambda number, _: came.append(number)) for stop in stops}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for stop, handler in handlers.items():
            if handler is not None:  # None when Python is ending
                signal.signal(stop, handler)
    for stop in dict.fromkeys(came):
        signal.raise_signal(stop)


def stop_at_once() -> None:
    """Let Ctrl-C end this process with one line, while a command loads its modules."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def stop_by_exception() -> None:
    """Undo `stop_at_once`: from now on there may be something to clean up."""
    if signal.getsignal(signal.SIGINT) == _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os.write(2, b"\nstopped\n")
    os._exit(130)
