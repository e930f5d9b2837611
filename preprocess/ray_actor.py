"""What lives on a CPU of a Ray cluster: one contained worker process, which does one source at a time."""

import platform
from collections import deque
from pathlib import Path

from preprocess.common.errors import UserError
from preprocess.extraction.local import work_here
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask
from preprocess.workers.pool import WorkerLimits


class Actor:
    """The actor: it lives on a node, has one worker process there, and does one source at a time."""

    def __init__(self, unit: VideoTask, worker_limits: WorkerLimits, landmarks: list[Path]) -> None:
        self._landmarks = landmarks
        self._feed = _Feed()
        self._manifests = work_here(self._feed, unit, workers=1, worker_limits=worker_limits)

    def look(self) -> None:
        """Raises UserError for a file or folder that exists, but not as this node sees it."""
        for path in self._landmarks:
            if not path.exists():
                raise UserError(f"node {platform.node()} does not see {path}: mount its folder there, at the same path")

    def work(self, source: Source) -> Outcome:
        """Make the piece of a source. The worker stays for the next: its imports take seconds."""
        self._feed.sources.append(source)
        try:
            outcome = next(self._manifests)
        except UserError as error:
            raise UserError(f"node {platform.node()}: {error}") from error
        if outcome.signature is None:  # a node that lost its mounts would go through all videos in no time
            self.look()
        return outcome


class _Feed:
    """An iterator that ends when it is empty and goes on when something was added: `supervise` asks again."""

    def __init__(self) -> None:
        self.sources: deque[Source] = deque()

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> Source:
        if not self.sources:
            raise StopIteration
        return self.sources.popleft()
