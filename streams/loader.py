"""Which clips make a batch, in which order, and the processes that read them."""

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


class EpochBatches(Sampler):
    """The batches of an epoch, in an order that the seed and the epoch alone decide: lists of (video, epoch).

    Every video comes once. Of each batch a rank gets every `ranks`-th video; where the last one is small, maybe none.
    """

    def __init__(
        self, dataset: ClipDataset, *, batch: int, seed: int, parts: int = 1, rank: int = 0, ranks: int = 1
    ) -> None:
        """`batch` is that of a step, of all ranks together; it is given in `parts`."""
        self.count = len(dataset)
        self.batch = batch
        self.parts = parts
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.epoch = 0  # set before each epoch
        self.done = 0  # steps of the epoch that are not given again: set to go on in its middle

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
                yield [(int(row), self.epoch) for row in part]


class ViewBatches(Sampler):
    """Every view of every video, once; of the videos a rank gets every `ranks`-th."""

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
    """Batches in their order, read ahead by `workers` processes."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        persistent_workers=workers > 0,
        worker_init_fn=partial(_start_worker, ends=_program_ends()) if workers else None,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),  # its own: else each new iterator draws from the program's random numbers
    )


def _as_it_is(batch: Batch) -> Batch:
    """The dataset makes batches itself."""
    return batch


@cache
def _program_ends():
    """A flag in memory that all processes see: whether the program is at its end."""
    flag = RawValue(ctypes.c_bool, False)

    def end(program: int = os.getpid()) -> None:
        flag.value = os.getpid() == program

    atexit.register(end)  # before that of multiprocessing, which ends its processes by SIGTERM and waits for them
    return flag


def _start_worker(_: int, *, ends: ctypes.c_bool) -> None:
    """Signals belong to the program, which ends its workers; clusters send them to all processes.

    Where the program is killed, its workers die at once: they hold its lock as long as they live.
    """

    def obey_the_program(*_: object) -> None:
        if ends.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, obey_the_program)
    end_with_parent()
