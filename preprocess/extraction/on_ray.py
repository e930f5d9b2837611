"""The engine for a Ray cluster: each video is a Ray task, done in a worker process as on one machine.

Sources go out and outcomes come back. Workers write pieces straight to the folder `unit.pieces`, so every node must see
that folder, the videos, and this code if it is not installed, under the same paths as here.

Ray distributes the tasks, moves those of a lost node to others, and uses CPUs that join later.
"""

import logging
import os
import platform
import re
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from preprocess.common.errors import UserError
from preprocess.common.stopping import Stopping
from preprocess.extraction.local import failed, work_here
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask
from preprocess.workers.pool import WorkerLimits

ROOT = Path(__file__).resolve().parents[2]  # the nodes import this code from here
LOOK = 1.0  # seconds between checks of the cluster's nodes
REACHED = 5.0  # seconds within which a cluster must answer
STORE = 100 << 20  # bytes of Ray's object store; no frame goes through it
DEATHS = 3  # Ray workers that may die at one video: losing a node is hardly ever a video's fault
VAIN = 3  # videos in a row that fail so: then the videos are not the cause
GO_ON = "run the same command again to go on"


def work_on_ray(
    sources: Iterable[Source],
    unit: VideoTask,
    *,
    workers: int,
    worker_limits: WorkerLimits,
    address: str | None = None,
    stopping: Stopping | None = None,
) -> Generator[Outcome, None, None]:
    """Make the pieces of all sources, as `preprocess.extraction.local.work_here` does, on the Ray cluster at `address`.

    Without an address, a cluster of `workers` CPUs is started here, and stopped in the end.

    Raises what work_here raises; UserError if there is no cluster, no node of it is left, or a node does not see the
    files it needs.
    """
    engine = unit.settings.parameters()["flow"]["engine"]  # "auto" is resolved here, the same for every node
    settings = replace(unit.settings, flow_engine=engine)
    unit = replace(unit, pieces=unit.pieces.absolute(), scratch=unit.scratch.absolute(), settings=settings)
    sources = [replace(source, file=os.path.abspath(source.file)) for source in sources]
    probe = unit.scratch / f"probe-{uuid4().hex}"
    landmarks = (probe, unit.pieces, *[Path(one.file) for one in sources if os.path.exists(one.file)][:1])
    with cluster(address, cpus=workers) as ray:
        probe.touch()
        try:
            job = ray.put(RayJob(unit, worker_limits, landmarks))
            yield from _run(ray, sources, job, gpu=engine == "cuda", stopping=stopping or Stopping())
        except ray.exceptions.RayError as error:
            raise UserError(f"the Ray cluster fails ({first_line(error)}); {GO_ON}") from error
        finally:
            probe.unlink(missing_ok=True)


@dataclass(frozen=True)
class RayJob:
    """The parameters that all tasks share."""

    unit: VideoTask
    worker_limits: WorkerLimits
    landmarks: tuple[Path, ...]  # files and folders that every node must see

    def look(self) -> None:
        """Raises UserError for a file or folder that this node does not see."""
        for path in self.landmarks:
            if not path.exists():
                raise UserError(f"node {platform.node()} does not see {path}: mount its folder there, at the same path")


def _run(ray: ModuleType, sources: list[Source], job, *, gpu: bool, stopping: Stopping) -> Iterator[Outcome]:
    """Keep two tasks per CPU submitted, so that no CPU waits for the driver."""
    task = ray.remote(max_retries=DEATHS - 1)(work)
    waiting, running, looked = deque(sources), {}, float("-inf")
    crashed: list[Outcome] = []  # since the last video that did not: not told before it is clear whose fault it is
    while waiting or running:
        stopping.check()
        if time.monotonic() - looked > LOOK:
            cpus, gpus = _resources(ray, gpu=gpu)
            looked = time.monotonic()
        while waiting and len(running) < 2 * cpus:
            share = min(1.0, 10_000 * gpus // cpus / 10_000) if gpu else 0
            ref = task.options(num_cpus=1, num_gpus=share).remote([job], waiting[0])
            running[ref] = waiting.popleft()
        for ref in ray.wait(list(running), timeout=LOOK)[0]:
            source = running.pop(ref)
            try:
                outcome = ray.get(ref)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
                crashed.append(failed(source, f"crashed: {DEATHS} Ray workers died while they decoded it"))
                if len(crashed) == VAIN:
                    raise UserError(f"Ray's workers die at every video ({first_line(error)}); {GO_ON}") from error
            else:
                yield from crashed
                crashed.clear()
                yield outcome
    yield from crashed


def _resources(ray: ModuleType, *, gpu: bool) -> tuple[int, int]:
    """The CPUs and GPUs of the present nodes. Raises UserError if there are none to work on."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(int(node.get(name, 0)) for node in nodes) for name in ("CPU", "GPU"))
    if not cpus:
        raise UserError(f"no node of the Ray cluster has a CPU any more: start nodes and {GO_ON}")
    if gpu and not gpus:
        raise UserError("the Ray cluster has no GPU for the flow engine cuda: give --flow-engine cpu")
    return cpus, gpus


def work(job: list, source: Source) -> Outcome:
    """Make the piece of a source, in a Ray worker. job: a list with a reference to the RayJob."""
    return _contained_worker(job[0]).do(source)


@lru_cache(maxsize=1)
def _contained_worker(reference) -> "ContainedWorker":
    import ray

    return ContainedWorker(ray.get(reference))


class ContainedWorker:
    """A worker process that is kept for the next video, since its imports take seconds."""

    def __init__(self, job: RayJob) -> None:
        job.look()
        self._job = job
        self._next: deque[Source] = deque()
        self._outcomes = work_here(self, job.unit, workers=1, worker_limits=job.worker_limits)

    def do(self, source: Source) -> Outcome:
        self._next.append(source)
        try:
            outcome = next(self._outcomes)
        except UserError as error:
            raise UserError(f"node {platform.node()}: {error}") from error
        if outcome.signature is None:  # a node that lost its mounts would reject all videos in no time
            self._job.look()
        return outcome

    def __iter__(self) -> Iterator[Source]:
        return self

    def __next__(self) -> Source:
        """The next source; the pool may call this again after StopIteration."""
        if not self._next:
            raise StopIteration
        return self._next.popleft()


@contextmanager
def cluster(address: str | None, *, cpus: int | None) -> Iterator[ModuleType]:
    """The module ray, connected to the cluster at `address`, or to one started here and stopped in the end.

    Raises UserError if Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'tristream[ray]'") from error
    if address is not None:
        _reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; avoids a warning
    stop = signal.getsignal(signal.SIGTERM)
    try:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        runtime = {"env_vars": {"PYTHONPATH": path}}
        common = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": runtime}
        if address is None:  # "local", since None may mean the cluster in RAY_ADDRESS
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **common)
        else:
            ray.init(address, **common)
    except Exception as error:  # Ray raises many kinds, plain Exception among them
        ray.shutdown()
        where = "does not start on this machine" if address is None else f"at {address} cannot be used"
        hint = "" if address is None else "; one that asks for a token needs RAY_AUTH_MODE=token here"
        raise UserError(f"the Ray cluster {where}: {first_line(error)}{hint}") from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray has installed its own
        yield ray
    finally:
        ray.shutdown()


def first_line(error: Exception) -> str:
    """An error's message in one line: Ray's messages fill pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reach(address: str) -> None:
    """Raises UserError at once if no cluster answers: Ray itself retries for minutes."""
    known = None
    if address == "auto":
        known = os.environ.get("RAY_ADDRESS")
        with suppress(OSError):  # `ray start` writes the address there, and leaves it
            known = (
                known or Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
            )
        if not known:
            return  # Ray reports this itself
    place = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d{1,5})", known or address)
    if place:
        with suppress(OSError, OverflowError):
            socket.create_connection((place[1], int(place[2])), timeout=REACHED).close()
            return
    raise UserError(f"no Ray cluster answers at --ray-address {address}: give auto, host:port or ray://host:port")
