"""Answers about a live video: each window's, with the time that it took, stage by stage."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from preprocess.common.errors import UserError
from preprocess.video.buffer import LiveBuffer
from preprocess.video.decoded import Frame, Item, Samples
from preprocess.video.log_mel import SAMPLE_RATE
from tasks.model import Model
from tasks.timeline import Timeline, of_windows

KEPT = 10_000  # answers whose delays are kept
STAGES = ("queue", "reach", "flow and log-mel", "model", "total")


@dataclass(frozen=True)
class Delay:
    """Seconds from the moment at which the last picture of a window was due or arrived until its answer, by stage."""

    queue: float  # until that picture was decoded and its turn had come
    reach: float  # until all had come that the window takes: its sound reaches further than its pictures
    compute: float  # until flow and log-mel were there
    model: float  # until the answer

    @property
    def total(self) -> float:
        return self.queue + self.reach + self.compute + self.model

    @property
    def stages(self) -> dict[str, float]:
        """Seconds a stage, in the order of STAGES."""
        return dict(zip(STAGES, (self.queue, self.reach, self.compute, self.model, self.total), strict=True))


class LiveAnswers:
    """Iterate it once for the answers, each a Timeline of one window; `recent` holds the latest of them."""

    def __init__(
        self,
        model: Model,
        source: LiveBuffer,
        *,
        length: float | None = None,
        hop: float | None = None,
        streams: Sequence[str] | None = None,
        keep: int = 1000,
    ) -> None:
        """
        Args:
            length: seconds of a window; the default is a training clip's.
            hop: seconds from one answer to the next; the default is half of a training clip.
            streams: the only ones that are used.
            keep: answers in `recent`.

        Raises UserError for a model without a classifier.
        """
        if not model.classes:
            raise UserError(f"{model.path} has no classifier, it was trained with --pretrain: it gives features alone")
        self.recent: deque[Timeline] = deque(maxlen=keep)
        self.delays: deque[Delay] = deque(maxlen=KEPT)
        self._model, self._source = model, source
        self._streams = model.streams if streams is None else tuple(streams)
        self._window = {"length": length, "hop": model.seconds / 2 if hop is None else hop}

    def __iter__(self) -> Iterator[tuple[Timeline, Delay]]:
        """Errors are those of `Model.windows` and of the source."""
        for _ in self._model.windows(_noise(self._model), length=self._window["length"]):
            pass  # the first flow, log-mel and answer of a process take seconds: not the source's first ones
        found = self._model.windows(self._source, newest_only=not self._source.lossless, **self._window)
        for windows in found:
            for _, part in of_windows(self._model, windows, self._streams):
                delay = self._delay(part, *windows.made)
                self.recent.append(part)
                self.delays.append(delay)
                yield part, delay

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Stage → the median ("p50") and the 95th percentile ("p95") of the delays, in seconds; empty without any."""
        if not self.delays:
            return {}
        values = np.array([list(delay.stages.values()) for delay in self.delays])
        found = np.quantile(values, (0.5, 0.95), axis=0)
        return {name: {"p50": float(p50), "p95": float(p95)} for name, p50, p95 in zip(STAGES, *found, strict=True)}

    def _delay(self, part: Timeline, complete: float, ready: float) -> Delay:
        last = round(part.seconds * self._model.fps) - 1
        due, taken = self._source.moments(last) or (complete, complete)
        return Delay(
            queue=taken - due,
            reach=max(0.0, complete - taken),
            compute=ready - max(complete, taken),
            model=monotonic() - ready,
        )


def _noise(model: Model) -> Iterator[Item]:
    """Half a second of a live video."""
    rng, side = np.random.default_rng(0), model.parameters["short_side"]
    for _ in range(round(model.fps / 2)):
        yield Frame(rng.integers(0, 256, (side, side, 3), np.uint8), count=1)
        yield Samples(rng.uniform(-0.1, 0.1, round(SAMPLE_RATE / model.fps)).astype(np.float32))
