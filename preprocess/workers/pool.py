"""A worker pool: any process may hang, crash or take too much memory, and only its own job is lost.

A job that ends its worker is tried once more, in a new worker; if it ends that one too, its result is a Failure.
"""

import multiprocessing
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Generic, TypeVar

from preprocess.common.errors import UserError
from preprocess.common.processes import PAGE, memory_pages, one_thread_each
from preprocess.common.stopping import Stopping, signals_later
from preprocess.workers.worker import OUT_OF_MEMORY, Heartbeat, SharedState, run_worker

Job = TypeVar("Job")
Result = TypeVar("Result")

LOOK = 0.2  # seconds between checks of the workers
ABSENCE = 1.0  # seconds: a longer time between checks counts as this
LOADING = 600.0  # seconds: a worker that is not ready by then hangs; GPU kernels are compiled in this time
DYING = 5.0  # seconds: a killed process that lasts longer waits for a disk that does not answer
ATTEMPTS = 2  # workers that one job may end
VAIN_DEATHS = 3  # deaths in a row of workers that had begun no job


@dataclass(frozen=True)
class WorkerLimits:
    """Limits for one video, beyond which it is given up."""

    stall_seconds: float = 60.0
    """a video that makes no progress for so long hangs, and is given up"""
    slowest: float = 30.0
    """a video may take this many times its own seconds, and --stall-seconds; a slower one is given up"""
    memory_mb: int = 1500
    """MB of memory that one video may take beyond what its worker has at rest; a larger one is given up"""


@dataclass(frozen=True)
class Failure:
    """The result of a job that ended its worker."""

    reason: str


def supervise(
    jobs: Iterable[Job],
    work: Callable[[Job, Heartbeat], Result],
    *,
    workers: int,
    worker_limits: WorkerLimits,
    warm_up: Callable[[], None] | None = None,
    limit_address_space: bool = True,
    stopping: Stopping | None = None,
) -> Iterator[tuple[Job, Result | Failure]]:
    """Do `work` on every job, in spawned processes of one thread each; yield (job, result) as they finish.

    Jobs are taken as needed. Jobs and results are pickled, and should be small. In each worker `warm_up` runs before
    the memory at rest is measured. CUDA reserves more address space than any limit: turn `limit_address_space` off.

    Raises what `work` or `warm_up` raises, except for MemoryError, which is a Failure (too large); UserError if
    workers die before they begin a job; KeyboardInterrupt soon after `stopping` is set.
    """
    pool = _Pool(
        iter(jobs), pickle.dumps((work, warm_up)), workers, worker_limits, limit_address_space, stopping or Stopping()
    )
    try:
        yield from pool.run()
    finally:  # also when the caller stops: running jobs are dropped
        pool.stop()


@dataclass
class _Task(Generic[Job]):
    """A job, and the number of workers that it has ended."""

    job: Job
    cost: int = 0  # workers
    ticket: int = 0  # the worker writes it to shared memory when it begins


class _Worker:
    """A worker process, its tasks, and its last heartbeat."""

    def __init__(self, payload: bytes, memory_mb: int | None, now: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.signs = context.RawValue(SharedState)
        self.connection, far_end = context.Pipe()
        arguments = (far_end, self.signs, payload, memory_mb)
        self.process = context.Process(target=run_worker, args=arguments, daemon=True)
        self.process.start()
        far_end.close()
        self.tasks: deque[_Task] = deque()  # the first one is running, or about to
        self.ready = False
        self.gone = False  # its connection is closed
        self.fresh = True  # has been given no task
        self.at_rest = 0  # resident pages
        self.began = self.moved = now  # times of the task's begin and of the last heartbeat
        self.seen = (0, 0)  # last ticket and number of heartbeats

    def give(self, task: _Task, ticket: int, now: float) -> None:
        if not self.tasks:
            self.moved = now
        task.ticket = ticket
        self.tasks.append(task)
        self.fresh = False
        try:
            self.connection.send((ticket, task.job))
        except OSError:  # it has died
            self.gone = True

    def receive(self) -> tuple | None:
        """The next message, or None."""
        try:
            message = self.connection.recv_bytes() if self.connection.poll() else None
        except (EOFError, OSError):
            self.gone = True
            return None
        return None if message is None else pickle.loads(message)

    def verdict(self, now: float, worker_limits: WorkerLimits) -> str | None:
        """The reason to kill this worker, or None."""
        seconds, ticket, beats = self.signs.seconds, self.signs.ticket, self.signs.beats
        if (ticket, beats) != self.seen:
            self.moved = now
            if ticket != self.seen[0]:
                self.began = now
            self.seen = (ticket, beats)
        if not self.ready:
            return f"hang: not ready after {LOADING:.0f} s" if now - self.moved > LOADING else None
        if not self.tasks:
            return None
        stall = worker_limits.stall_seconds
        if now - self.moved > stall:
            return f"hang: no progress for {stall:.0f} s"
        if ticket == self.tasks[0].ticket:
            if now - self.began > stall + worker_limits.slowest * seconds:
                return f"hang: {seconds:.0f} s of video in {now - self.began:.0f} s"
            pages = memory_pages(self.process.pid)
            if pages is not None and (pages[1] - self.at_rest) * PAGE > worker_limits.memory_mb << 20:
                return _too_large(worker_limits)
        return None

    def end(self) -> int | None:
        """Make sure that the process has ended; return its exit code, or None if it is unknown."""
        self.process.kill()  # does nothing to one that has ended
        self.process.join(DYING)
        return self.process.exitcode

    def close(self) -> None:
        self.connection.close()
        if self.process.exitcode is not None:
            self.process.close()


class _Pool(Generic[Job, Result]):
    """The workers and the unfinished jobs."""

    def __init__(
        self,
        jobs: Iterator[Job],
        payload: bytes,
        size: int,
        worker_limits: WorkerLimits,
        limit_address_space: bool,
        stopping: Stopping,
    ) -> None:
        self.jobs = jobs
        self.payload = payload
        self.size = size
        self.worker_limits = worker_limits
        self.limit_address_space = limit_address_space
        self.stopping = stopping
        self.workers: list[_Worker] = []
        self.waiting: deque[_Task] = deque()  # taken from jobs, not yet given to a worker
        self.again: deque[_Task] = deque()  # have ended a worker; tried in new ones, free of other jobs' leaks
        self.tickets = count(1)
        self.idle_deaths = 0  # deaths of workers without a running job since the last result
        self.clock = _AwakeClock()

    def run(self) -> Iterator[tuple[Job, Result | Failure]]:
        next_look = 0.0
        while True:
            self.stopping.check()
            while len(self.workers) < self.size and (self.again or self._fetch(1)):
                self._start()
            self._hand_out()
            if not any(worker.tasks for worker in self.workers) and not self.again and not self._fetch(1):
                return
            ends = [end for worker in self.workers for end in (worker.connection, worker.process.sentinel)]
            events = set(wait(ends, timeout=LOOK))
            now = self.clock.tick()
            look = now >= next_look
            if look:
                next_look = now + LOOK
            for worker in list(self.workers):
                if look or worker.connection in events or worker.process.sentinel in events:
                    yield from self._check(worker, dead=worker.process.sentinel in events)

    def stop(self) -> None:
        with signals_later():
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.end()
                worker.close()
            self.workers.clear()

    def _fetch(self, number: int) -> bool:
        """Take jobs until `number` tasks wait; True if there are that many."""
        missing = max(0, number - len(self.waiting))
        self.waiting.extend(_Task(job) for job in islice(self.jobs, missing))
        return len(self.waiting) >= number

    def _start(self) -> None:
        resource_tracker.ensure_running()  # or the first start() does it, and unblocks the signals behind our back
        with signals_later(), one_thread_each():
            memory_mb = self.worker_limits.memory_mb if self.limit_address_space else None
            self.workers.append(_Worker(self.payload, memory_mb, self.clock.now))

    def _hand_out(self) -> None:
        """Give one task to every worker that has none, then a second to each, so that none waits for a busy parent.

        The last tasks are not given in advance: none should wait for one worker while another is idle.
        """
        ready = [worker for worker in self.workers if worker.ready and not worker.gone]
        for worker in ready:
            if not worker.tasks:
                if worker.fresh and self.again:
                    worker.give(self.again.popleft(), next(self.tickets), self.clock.now)
                elif self._fetch(1):
                    worker.give(self.waiting.popleft(), next(self.tickets), self.clock.now)
        for worker in ready:
            if len(worker.tasks) == 1 and self._fetch(self.size + 1):
                worker.give(self.waiting.popleft(), next(self.tickets), self.clock.now)

    def _check(self, worker: _Worker, dead: bool) -> Iterator[tuple[Job, Result | Failure]]:
        """Take the worker's messages; if it must be killed, or has ended, remove it."""
        yield from self._receive(worker)
        dead = dead or worker.gone
        verdict = None if dead else worker.verdict(self.clock.now, self.worker_limits)
        if dead or verdict:
            at_work = worker.seen[0]
            code = worker.end()
            yield from self._receive(worker)  # results sent before it died count
            if dead:
                at_work, verdict = worker.signs.ticket, _cause(code, self.worker_limits)
            yield from self._remove(worker, at_work, verdict)

    def _receive(self, worker: _Worker) -> Iterator[tuple[Job, Result]]:
        while (message := worker.receive()) is not None:
            match message:
                case ("ready",):
                    pages = memory_pages(worker.process.pid)
                    worker.at_rest = pages[1] if pages else 0
                    worker.ready = True
                    worker.moved = self.clock.now
                case ("done", result):
                    self.idle_deaths = 0
                    yield worker.tasks.popleft().job, result
                case ("raised", error, trace):
                    raise error from RuntimeError(f"in a worker:\n{trace}")

    def _remove(self, worker: _Worker, at_work: int, reason: str) -> Iterator[tuple[Job, Failure]]:
        """Remove an ended worker. Its running task, if any, is retried or fails; the others go to other workers."""
        self.workers.remove(worker)
        worker.close()
        blamed = worker.tasks.popleft() if worker.tasks and worker.tasks[0].ticket == at_work else None
        self.waiting.extendleft(reversed(worker.tasks))
        if blamed is None:
            self.idle_deaths += 1
            if self.idle_deaths == VAIN_DEATHS:
                raise UserError(
                    f"the worker processes end before they do any work ({reason}); "
                    "if the machine is short of memory, use fewer --workers"
                )
            return
        blamed.cost += 1
        if blamed.cost < ATTEMPTS:
            self.again.append(blamed)
        else:
            self.idle_deaths = 0
            yield blamed.job, Failure(reason)


class _AwakeClock:
    """Seconds in which the supervisor was running.

    Ctrl-Z stops it together with its workers, and a busy caller delays its checks: neither counts as a hang.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._last = time.monotonic()

    def tick(self) -> float:
        moment = time.monotonic()
        self.now += min(moment - self._last, ABSENCE)
        self._last = moment
        return self.now


def _cause(code: int | None, worker_limits: WorkerLimits) -> str:
    """The reason that an exit code stands for."""
    if code == OUT_OF_MEMORY:
        return _too_large(worker_limits)
    if code is None:
        return "crashed: decoding it ends the process"
    names = {member.value: member.name for member in signal.Signals}
    how = f"status {code}" if code >= 0 else names.get(-code, f"signal {-code}")
    return f"crashed: decoding it ends the process ({how})"


def _too_large(worker_limits: WorkerLimits) -> str:
    return f"too large: needs more than {worker_limits.memory_mb} MB of memory"
