"""The progress bar of an epoch: its loss and top-1 so far, and the time that is left of it and of the run."""

import time

from torch import Tensor

from preprocess.common.console import human_seconds, progress

PAUSE = 1.0  # seconds at least from one look at the sums to the next: each waits for the GPU


class Pace:
    """The time that a run still takes, by the steps that this process has done, with all that lies between them."""

    def __init__(self, *, steps: int, done: int) -> None:
        """steps: of the whole run; done: by earlier processes."""
        self.steps = steps
        self._first = done
        self._begun = time.monotonic()

    def left(self, done: int) -> float:
        """Seconds until the end of the run, after `done` steps in all."""
        return (time.monotonic() - self._begun) / max(1, done - self._first) * (self.steps - done)


class EpochBar:
    """A bar over the steps of an epoch."""

    def __init__(self, pace: Pace, *, name: str, steps: int, done: int, before: int, hidden: bool) -> None:
        """steps: of the epoch, `done` of them before; before: steps of all epochs before it."""
        self.pace = pace
        self._bar = progress(total=steps, done=done, unit="step", name=name, leave=False, hidden=hidden)
        self._before = before
        self._due = 0.0

    def update(self, sums: Tensor) -> None:
        """Count a step. sums: (3,), of the epoch's clips: their losses, right answers, and number."""
        now = time.monotonic()
        if not self._bar.disable and now >= self._due:
            self._due = now + max(PAUSE, self._bar.mininterval)
            loss, right, clips = sums.tolist()
            left = self.pace.left(self._before + self._bar.n + 1)
            self._bar.set_postfix_str(
                f"loss {loss / max(1, clips):.3f}, top-1 {right / max(1, clips):.1%}, run {human_seconds(left)} left",
                refresh=False,
            )
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
