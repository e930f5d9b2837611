"""The engine for one machine: a pool of worker processes, one video at a time each."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from preprocess.common.stopping import Stopping
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask, looked_at
from preprocess.video.settings import PieceSettings
from preprocess.workers.pool import Failure, WorkerLimits, supervise
from preprocess.workers.worker import Heartbeat


def work_here(
    sources: Iterable[Source],
    unit: VideoTask,
    *,
    workers: int,
    worker_limits: WorkerLimits,
    stopping: Stopping | None = None,
) -> Iterator[Outcome]:
    """Make the pieces of all sources; yield each outcome as it is ready.

    Raises OSError for what is not a video's fault (the disk is full, the folder is gone); KeyboardInterrupt soon after
    `stopping` is set.
    """
    settings = unit.settings
    engine = settings.parameters()["flow"]["engine"]
    done = supervise(
        sources,
        partial(_work, unit),
        workers=workers,
        worker_limits=worker_limits,
        warm_up=partial(warm_up, settings),
        limit_address_space=engine != "cuda",  # CUDA reserves more than any limit
        stopping=stopping,
    )
    for source, outcome in done:
        if isinstance(outcome, Failure):
            outcome = failed(source, outcome.reason)
        yield outcome


def failed(source: Source, reason: str) -> Outcome:
    """The outcome of a video that ended its worker process."""
    return Outcome(source.path, looked_at(source.file), None, reason)


def warm_up(settings: PieceSettings) -> None:
    """Load, compile and allocate, on one thread, what every video needs."""
    import cv2
    import torch

    from preprocess.flow import tvl1

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    frames = np.zeros((2, settings.short_side, settings.short_side), np.uint8)
    frames[1, ::4] = 255  # the flow of equal frames is not solved
    tvl1(frames, engine=settings.flow_engine, preset=settings.flow_preset)


def _work(unit: VideoTask, source: Source, heartbeat: Heartbeat) -> Outcome:
    return unit(source, heartbeat.beat)
