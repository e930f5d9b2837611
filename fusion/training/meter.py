"""Speed of a run, and its bottlenecks."""

import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

Item = TypeVar("Item")

MATRIX = 8192  # side of the matrices whose product measures a GPU's peak arithmetic
BACKWARD = 3  # a training step takes so many times the forward pass's arithmetic


class Meter:
    """Counts clips, seconds, and the share of them spent waiting for clips to be read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clips = 0
        self.waited = 0.0
        self._begun = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def reads(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the time until each arrives counts as waiting."""
        iterator = iter(items)
        while True:
            with self._waiting():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def row(self, *, frames: int, flops: float, peak: float | None) -> dict[str, float]:
        """The values to log. frames: of a clip; flops: to train on a clip; peak: flops a second of the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - self._begun
        row = {
            "seconds": seconds,
            "clips_per_second": self.clips / seconds,
            "frames_per_second": self.clips * frames / seconds,
            "waiting_share": self.waited / seconds,
            "memory_gb": self._memory() / 1e9,
        }
        return row if peak is None else row | {"mfu": flops * self.clips / seconds / peak}

    def _memory(self) -> float:
        """The peak memory in bytes: of the GPU, or of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - begun


def training_flops(model: nn.Module, clips: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> float:
    """Floating-point operations that training takes for one clip of all streams: three times the forward pass's."""
    from torch.utils.flop_counter import FlopCounterMode

    training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()({name: clip[:1] for name, clip in clips.items()}, {k: mask[:1] for k, mask in present.items()})
    model.train(training)
    return BACKWARD * float(counter.get_total_flops())


def peak_flops(device: torch.device) -> float | None:
    """Operations a second that a large bfloat16 matrix product reaches on a GPU; None elsewhere."""
    if device.type != "cuda":
        return None
    a = torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize(device)
    return 10 * 2 * MATRIX**3 / (time.perf_counter() - begun)
