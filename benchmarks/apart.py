"""The sides of a comparison, each in a process of its own."""

from collections.abc import Callable
from multiprocessing import Pipe, get_context
from time import perf_counter, process_time

Side = Callable[[int], None]  # reads so many clips, or does so many of whatever is counted


class Apart:
    """A side in a process of its own, so that spinning threads of other sides are not counted."""

    def __init__(self, make: Callable[[], Side]) -> None:
        """Raises what `make` raises."""
        self._pipe, theirs = Pipe()
        self._process = get_context("fork").Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def __call__(self, clips: int) -> tuple[float, float]:
        """The CPU seconds and the seconds of wall time that so many clips take."""
        self._pipe.send(clips)
        return self._answer()

    def _answer(self):
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            raise RuntimeError("its process has died") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(make: Callable[[], Side], pipe) -> None:
    try:
        side = make()
        pipe.send(None)
        while True:
            clips = pipe.recv()
            clock, cpu = perf_counter(), process_time()
            side(clips)
            pipe.send((process_time() - cpu, perf_counter() - clock))
    except EOFError:
        pass
    except Exception as error:
        pipe.send(RuntimeError(str(error)))
