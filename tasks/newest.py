"""An iterator in a thread of its own, of which the newest item is always the next."""

import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def newest(items: Iterable[Item]) -> Iterator[Item]:
    """The items, made in a thread; one that has not been taken when the next is there is passed over.

    Errors of the thread are raised here. Closing the iterator ends the thread at its next item.
    """
    changed, waiting = threading.Condition(), []
    ended, closed, error = False, False, None

    def make() -> None:
        nonlocal ended, error
        try:
            for item in items:
                with changed:
                    if closed:
                        return
                    waiting[:] = [item]
                    changed.notify()
        except BaseException as raised:
            error = raised
        finally:
            with changed:
                ended = True
                changed.notify()

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or ended)
                if not waiting:
                    if error is not None:
                        raise error
                    return
                item = waiting.pop()
            yield item
    finally:
        closed = True
