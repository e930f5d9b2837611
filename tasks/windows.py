"""Windows of videos through a model: the outputs of each stream for an interval of time, and the fused ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fusion.device import mixed_precision
from fusion.heads.head import Mask, StreamOutputs
from fusion.model import FusionModel
from streams.batch import Batch
from tasks.exported.network import ExportedNetwork


@dataclass(frozen=True)
class Windows:
    """N windows of videos, in the order of time within each. T' and C differ from stream to stream.

    The rows of absent streams in `sequences`, `features` and `logits` are zeros, and never used.
    """

    videos: tuple[str, ...]  # (N,) the name of each window's video in its source
    rows: Tensor  # (N,) int64: the index of that video among the source's
    times: Tensor  # (N, 2) float64: begin and end of the pictures in seconds; sound extends further
    present: dict[str, Tensor]  # stream → (N,) bool
    sequences: dict[str, Tensor]  # stream → (N, T', D), its LSTM's output at each step
    features: dict[str, Tensor]  # stream → (N, D), the mean of that over time
    logits: dict[str, Tensor]  # stream → (N, K), each stream's own
    towers: dict[str, Tensor]  # stream → (N, T', C), its tower's output
    fused: Tensor  # (N, F): the head's feature from all present streams
    answer: Tensor  # (N, K) float64: class probabilities from it; zeros if no stream is present
    inputs: dict[str, Tensor] | None = None  # stream → its tower's input, for gradients; None without
    moments: dict[str, Tensor] | None = None  # stream → (N, T) float64: the middles of the steps of `inputs`, seconds
    made: tuple[float, float] | None = None  # of a live source: see LiveBatch.complete and .ready

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: Tensor) -> "Windows":
        """Some of the windows, by a mask (N,) bool; without `inputs`."""
        parts = {
            part: {name: values[rows] for name, values in getattr(self, part).items()}
            for part in ("present", "sequences", "features", "logits", "towers")
        }
        names = tuple(name for name, there in zip(self.videos, rows.tolist(), strict=True) if there)
        same = {part: getattr(self, part)[rows] for part in ("rows", "times", "fused", "answer")}
        return replace(self, videos=names, inputs=None, moments=None, **same, **parts)

    @cached_property
    def answered(self) -> Tensor:
        """(N,) bool: True if any stream is present."""
        return torch.stack(list(self.present.values())).any(dim=0)

    @property
    def outputs(self) -> StreamOutputs:
        """The streams' outputs in the form that the fusion head takes."""
        return StreamOutputs(self.logits, self.features, self.sequences, self.towers)


def fuse(network: FusionModel | ExportedNetwork, windows: Windows, subset: tuple[str, ...]) -> Windows:
    """The same windows as if only the streams of `subset` were present."""
    present = {name: there & (name in subset) for name, there in windows.present.items()}
    with _mode(windows.rows.device, gradients=windows.inputs is not None):
        fused, answer = _fuse(network, windows.outputs, present)
    return replace(windows, present=present, fused=fused, answer=answer)


def encode(
    network: FusionModel | ExportedNetwork,
    batch: Batch,
    *,
    videos: Sequence[tuple[str, float]],
    fps: float,
    gradients: bool = False,
) -> Windows:
    """A batch on the network's device → its windows; `videos` are the name and the seconds of each row's video.

    With `gradients`, the windows hold `inputs`, with respect to which gradients can be taken.
    """
    inputs = network.inputs(batch)
    if gradients:
        inputs = {name: value.float().requires_grad_() for name, value in inputs.items()}
    outputs, fused, answer = run(network, inputs, batch.present, rows=batch.rows, gradients=gradients)
    begin, last = batch.starts[:, 0].double() / fps, batch.starts[:, -1].double() / fps
    ends = torch.tensor([seconds for _, seconds in videos], dtype=torch.float64, device=begin.device)
    return Windows(
        videos=tuple(name for name, _ in videos),
        rows=batch.videos,
        times=torch.stack([begin, torch.minimum(last + batch.clip.span / fps, ends)], dim=1),
        present=batch.present,
        **outputs._asdict(),
        fused=fused,
        answer=answer,
        inputs=inputs if gradients else None,
    )


def run(
    network: FusionModel | ExportedNetwork,
    inputs: dict[str, Tensor],
    present: Mask,
    *,
    rows: dict[str, Tensor] | None = None,
    gradients: bool = False,
) -> tuple[StreamOutputs, Tensor, Tensor]:
    """The towers' inputs, {(N, …)}, and what is present, {(N,)} → the streams' outputs, (N, F) and (N, K), as Windows.

    rows: the indices of the present rows, where they are known.
    """
    with _mode(next(iter(present.values())).device, gradients=gradients):
        outputs = network.encode(inputs, present, rows=rows)
        outputs = StreamOutputs(*({name: value.float() for name, value in part.items()} for part in outputs))
        return outputs, *_fuse(network, outputs, present)


def _fuse(
    network: FusionModel | ExportedNetwork, outputs: StreamOutputs, present: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    fused, logits = network.answer(outputs, present)
    there = torch.stack(list(present.values())).any(dim=0)
    return fused.float(), logits.float().double().softmax(dim=1) * there[:, None]


@contextmanager
def _mode(device: torch.device, *, gradients: bool) -> Iterator[None]:
    if gradients:
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # its LSTM has no gradients in evaluation
            yield
    else:
        with torch.no_grad(), mixed_precision(device):
            yield
