"""Batches of clips: their order, and the processes that read them."""

import atexit
import ctypes
import os
import signal
from collections.abc import Iterator
from functools import cache, partial
from multiprocessing.sharedctypes import RawValue

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from preprocess.common.processes import end_with_parent
from streams.batch import Batch, ClipDataset

AHEAD = 2  # batches that each reading process has ready


class EpochBatches(Sampler):
    """The batches of an epoch, lists of (video, number), in an order that depends on the seed and the epoch only.

    Every video comes once. Of each batch a rank gets every `ranks`-th video; of a small last batch, maybe none.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch: int,
        seed: int,
        parts: int = 1,
        views: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """batch: videos of a step, over all ranks; they come in `parts` parts. A part has `views` clips of each video:
        all first ones, then all second ones …"""
        self.count = len(dataset)
        self.batch = batch
        self.parts = parts
        self.views = views
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0  # set before each epoch
        self.done = 0  # steps of the epoch to skip: set to resume in its middle

    @property
    def total(self) -> int:
        """Steps an epoch."""
        return -(-self.count // self.batch)

    def __len__(self) -> int:
        return (self.total - self.done) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        for begin in range(self.done * self.batch, self.count, self.batch):
            share = order[begin : begin + self.batch][self.rank :: self.ranks]
            for part in np.array_split(share, self.parts):
                numbers = range(self.epoch * self.views, (self.epoch + 1) * self.views)
                yield [(int(row), number) for number in numbers for row in part]


class ViewBatches(Sampler):
    """Every view of every video, once; a rank gets every `ranks`-th video."""

    def __init__(self, dataset: ClipDataset, *, batch: int, rank: int = 0, ranks: int = 1) -> None:
        self.batch = batch
        self.keys = [
            (row, view)
            for row in range(rank, len(dataset), ranks)
            for view in range(len(dataset.starts(dataset.videos[row])))
        ]

    def __len__(self) -> int:
        return -(-len(self.keys) // self.batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self.keys[begin : begin + self.batch] for begin in range(0, len(self.keys), self.batch))


def make_loader(dataset: ClipDataset, batches: Sampler, *, workers: int, pin: bool) -> DataLoader:
    """Batches in order, read ahead by `workers` processes."""
    return _Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=partial(_start_worker, ends=_program_ends()) if workers else None,
        prefetch_factor=AHEAD if workers else None,
        generator=torch.Generator(),  # a separate one: else each new iterator draws from the program's random numbers
    )


class _Loader(DataLoader):
    def check_worker_number_rationality(self) -> None:
        """No warning of more processes than cores: it is the user's choice, and they wait for the disk."""


def _as_it_is(batch: Batch) -> Batch:
    """No collation: the dataset makes batches itself."""
    return batch


@cache
def _program_ends():
    """A flag in shared memory, set when the program ends."""
    flag = RawValue(ctypes.c_bool, False)

    def end(program: int = os.getpid()) -> None:
        flag.value = os.getpid() == program

    atexit.register(end)  # before multiprocessing's handler, which ends its processes by SIGTERM and waits for them
    return flag


def _start_worker(_: int, *, ends: ctypes.c_bool) -> None:
    """Let a worker ignore signals, which clusters send to all processes: the program ends its workers.

    If the program is killed, its workers end at once, since they would hold its lock.
    """

    def obey_the_program(*_: object) -> None:
        if ends.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, obey_the_program)
    end_with_parent()
