"""Distributed training: torchrun starts several processes (ranks), and their gradients are summed.

Each rank has its share of every batch, and its losses are divided by the counts of the whole batch, so that the sum of
the ranks' gradients is the gradient of one process with the whole batch. A rank whose share lacks a stream, or is
empty, contributes zeros.
"""

import os
import sys
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Ranks:
    """This process among those that train together; the only one unless torchrun started it."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.local = int(os.environ.get("LOCAL_RANK", 0))  # its number on this machine
        self.here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this machine

    def __enter__(self) -> "Ranks":
        if self.size > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.size > 1 and kind is None:  # after an error the others may never reach this point
            dist.destroy_process_group()

    def end_process(self) -> None:
        """End this process, if it is one of several, without Python's finalisation.

        A thread of gloo may be freeing its last tensor then, and aborts: in one run of 20 with PyTorch 2.11.
        """
        if self.size > 1:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    @property
    def first(self) -> bool:
        """True if this is the rank that writes and prints."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every parameter the sum of all ranks' gradients; a missing gradient counts as zero."""
        if self.size == 1:
            return
        parameters = list(parameters)
        set_gradients(parameters, self.add_up(flat_gradients(parameters)))

    def join_rows(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, one rank's after the other's, (N, …); gradients flow into this rank's own alone.

        A loss of them that every rank computes alike has gradients that add up to those of one process.
        """
        if self.size == 1:
            return rows
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(rows)
        counts = self.add_up(counts).tolist()
        begin = sum(counts[: self.rank])
        joined = rows.new_zeros(sum(counts), *rows.shape[1:])
        joined[begin : begin + len(rows)] = rows.detach()
        self.add_up(joined)
        return torch.cat([joined[:begin], rows, joined[begin + len(rows) :]])

    def same_text(self, text: str) -> str:
        """The first rank's text, sent to all."""
        if self.size == 1:
            return text
        data = torch.zeros(1 << 12, dtype=torch.uint8)
        encoded = os.fsencode(text)
        data[: len(encoded)] = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return os.fsdecode(bytes(data.tolist()).rstrip(b"\0"))


def flat_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The gradients of all trainable parameters as one vector; zeros for missing ones."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in learning])


def set_gradients(parameters: Iterable[nn.Parameter], flat: Tensor) -> None:
    """Set the gradients from such a vector."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter, gradient in zip(learning, flat.split([p.numel() for p in learning]), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(gradient.view(parameter.shape))  # in its memory order
