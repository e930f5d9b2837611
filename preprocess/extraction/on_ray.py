"""The engine of a Ray cluster: an actor on each of its CPUs, with a contained worker process as on one machine.

Sources go out and manifests come back. Pieces go from the workers straight to the folder `unit.pieces`, so that every
node must see that folder, the videos, and this code where it is not installed, under the paths that they have here.

Nodes may go at any time, and what they were at is given to others; CPUs that come later are taken too.
"""

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from preprocess.common.errors import UserError
from preprocess.extraction.local import failed
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask
from preprocess.ray_actor import Actor
from preprocess.ray_cluster import cluster, first_line
from preprocess.workers.pool import WorkerLimits

LOOK = 1.0  # seconds from one look at the cluster's nodes to the next
PATIENCE = 300.0  # seconds without any CPU, while others use the cluster
GO_ON = "run the same command again to go on"
DEATHS = 3  # of actors that one video was at work in; a node's going is hardly ever a video's fault
VAIN_DEATHS = 3  # of actors that did nothing, one after the other, for each CPU


def work_on_ray(
    sources: Iterable[Source],
    unit: VideoTask,
    *,
    worker_limits: WorkerLimits,
    address: str | None = None,
    workers: int | None = None,
) -> Generator[Outcome, None, None]:
    """Make the pieces of all sources, as `preprocess.extraction.local.work_here` does, on the Ray cluster at `address`.

    Without an address one of `workers` CPUs is started here, and stopped in the end. With one, `workers` are at most
    so many actors; None is one for each CPU.

    Raises OSError for what is not a video's fault; UserError if there is no cluster, or no node of it is left, or one
    does not see what it must.
    """
    engine = unit.settings.parameters()["flow"]["engine"]  # "auto" means what it means here, on every node
    settings = replace(unit.settings, flow_engine=engine)
    unit = replace(unit, pieces=unit.pieces.absolute(), scratch=unit.scratch.absolute(), settings=settings)
    tasks = [_Task(replace(source, file=os.path.abspath(source.file))) for source in sources]
    landmarks = [unit.scratch / f"probe-{uuid4().hex}", unit.pieces]
    landmarks += [Path(task.source.file) for task in tasks if os.path.exists(task.source.file)][:1]
    with cluster(address, cpus=workers) as ray:
        landmarks[0].touch()
        try:
            arguments = [ray.put(unit), worker_limits, landmarks]
            yield from _Pool(tasks, arguments, ray, most=workers, gpu=engine == "cuda").run()
        except ray.exceptions.RayError as error:
            raise UserError(f"the Ray cluster fails ({first_line(error)}); {GO_ON}") from error
        finally:
            landmarks[0].unlink(missing_ok=True)


@dataclass
class _Task:
    source: Source
    deaths: int = 0  # of actors in which it was at work


@dataclass(eq=False)
class ActorState:
    """What the driver knows of an actor."""

    actor: object
    greeting: object | None  # the call of look(), until it has returned: the actor may still wait for a CPU
    calls: deque[tuple[object, _Task]] = field(default_factory=deque)  # the first is at work, or about to be


class _Pool:
    """The actors and the tasks that are not done."""

    def __init__(self, tasks: list[_Task], arguments: list, ray, *, most: int | None, gpu: bool) -> None:
        self.waiting = deque(tasks)
        self.again: deque[_Task] = deque()  # were at work in an actor that died; they come last, and alone
        self.posts: list[ActorState] = []
        self.arguments = arguments
        self.ray = ray
        self.most = most
        self.gpu = gpu
        self.vain = 0  # deaths of actors that did nothing since one was ready
        self.why: list[str] = []  # the last line of what Ray said of the last of them
        self.looked = float("-inf")  # when the nodes were counted
        self.worked = time.monotonic()  # when an actor was there last

    def run(self) -> Iterator[Outcome]:
        while True:
            self._enlist()
            yield from self._hand_out()
            if not (self.waiting or self.again or any(post.calls for post in self.posts)):
                return
            refs = [ref for post in self.posts for ref in (post.greeting, *(call[0] for call in post.calls)) if ref]
            if not refs:
                time.sleep(LOOK)  # all actors are gone, and the nodes have just been counted
            elif self.ray.wait(refs, timeout=LOOK)[0]:
                ready = set(self.ray.wait(refs, num_returns=len(refs), timeout=0)[0])
                for post in list(self.posts):
                    yield from self._attend(post, ready)

    def _enlist(self) -> None:
        """As many actors as the nodes that are there now have CPUs, and as there are tasks."""
        now = time.monotonic()
        if any(post.greeting is None for post in self.posts):
            self.worked = now
        if now - self.looked < LOOK:
            return
        self.looked = now
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        cpus, gpus = (sum(int(node.get(name, 0)) for node in nodes) for name in ("CPU", "GPU"))
        if not cpus:
            raise UserError(f"no node of the Ray cluster has a CPU any more: start nodes and {GO_ON}")
        if self.gpu and not gpus:
            raise UserError("the Ray cluster has no GPU for the flow engine cuda: give --flow-engine cpu")
        if now - self.worked > PATIENCE:
            raise UserError(f"the Ray cluster gave none of its {cpus} CPUs in {PATIENCE:.0f} s; {GO_ON}")
        if self.vain > VAIN_DEATHS * cpus:
            raise UserError(f"the actors on the Ray cluster end before they do any work: {''.join(self.why)}")
        left = len(self.waiting) + len(self.again) + sum(len(post.calls) for post in self.posts)
        needs = {"num_cpus": 1, "num_gpus": min(1.0, 10_000 * gpus // cpus / 10_000) if self.gpu else 0}
        outpost = self.ray.remote(Actor).options(**needs)
        for _ in range(min(cpus, left, self.most or cpus) - len(self.posts)):
            actor = outpost.remote(*self.arguments)
            self.posts.append(ActorState(actor, actor.look.remote()))

    def _hand_out(self) -> Iterator[Outcome]:
        """One task to every actor that has none, then a second one, so that none waits for its driver."""
        ready = [post for post in self.posts if post.greeting is None]
        for length in (0, 1):
            for post in ready:
                if len(post.calls) == length and len(self.waiting) > length * len(self.posts):
                    self._give(post, self.waiting.popleft())
        for post in ready:
            while self.again and not post.calls:  # while there is no actor, none is judged either
                task = self.again.popleft()
                if task.deaths < DEATHS:
                    self._give(post, task)
                else:
                    yield failed(task.source, f"crashed: {DEATHS} Ray actors died while they decoded it")

    def _give(self, post: ActorState, task: _Task) -> None:
        post.calls.append((post.actor.work.remote(task.source), task))

    def _attend(self, post: ActorState, ready: set) -> Iterator[Outcome]:
        """Take what the actor has sent; see whether it has died."""
        try:
            if post.greeting in ready:
                self.ray.get(post.greeting)
                post.greeting = None
                self.vain = 0
            while post.calls and post.calls[0][0] in ready:
                outcome = self.ray.get(post.calls[0][0])
                post.calls.popleft()
                yield outcome
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self._lose(post, error)

    def _lose(self, post: ActorState, error: Exception) -> None:
        """Its tasks go to other actors; the first was at work in it."""
        self.posts.remove(post)
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(post.actor)  # it may just not answer
        if post.greeting is not None:
            self.vain, self.why = self.vain + 1, str(error).strip().splitlines()[-1:]
        tasks = [task for _, task in post.calls]
        for task in tasks[:1]:
            task.deaths += 1
            self.again.append(task)
        self.waiting.extendleft(reversed(tasks[1:]))
