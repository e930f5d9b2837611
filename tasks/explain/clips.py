"""The clips of one video as the towers see them: what of them is replaced by nothing, and what the model then says."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusion.heads.head import StreamOutputs
from fusion.model import FusionModel
from streams.registry import streams_of
from tasks.windows import Windows, fuse, run

ROWS = 4  # clips that go through the model at a time


@dataclass(frozen=True)
class Clips:
    """N clips of a video. The inputs are (N, C, T, H, W) or (N, M, T), as each tower takes them."""

    network: FusionModel
    parts: tuple[Windows, ...]  # in which they were encoded
    inputs: dict[str, Tensor]  # stream → its tower's input
    empty: dict[str, float]  # stream → the value of its input that shows nothing
    present: dict[str, Tensor]  # stream → (N,) bool
    moments: dict[str, Tensor]  # stream → (N, T) float64: seconds of the middles of the input's steps
    times: Tensor  # (N, 2) float64: begin and end of the pictures in seconds
    answered: Tensor  # (N,) bool: any stream is there; an answer is the mean over these

    def __len__(self) -> int:
        return len(self.times)

    @property
    def streams(self) -> list[str]:
        """The streams that are there in any clip."""
        return [name for name, there in self.present.items() if there.any()]

    def nothing(self) -> dict[str, Tensor]:
        """Inputs that show nothing, in every stream."""
        return {name: torch.full_like(values, self.empty[name]) for name, values in self.inputs.items()}

    def chunks(self) -> Iterator[Tensor]:
        """Indices of a few clips at a time."""
        yield from torch.arange(len(self), device=self.times.device).split(ROWS)

    def answers(self, inputs: dict[str, Tensor]) -> Tensor:
        """(N, K) probabilities for other inputs of the same clips."""
        found = []
        for rows in self.chunks():
            given = {name: values[rows] for name, values in inputs.items()}
            present = {name: there[rows] for name, there in self.present.items()}
            _, _, answer = run(self.network, given, present, gradients=True)  # in full precision, as the maps are
            found.append(answer.detach())
        return torch.cat(found)

    def answers_without(self, stream: str, hidden: Tensor) -> Tensor:
        """(N, K) probabilities where the steps `hidden`, (N, T) bool, of a stream show nothing.

        Only clips of which something is hidden are encoded again, and only this stream of them.
        """
        answers = torch.cat([part.answer for part in self.parts])
        (rows,) = (hidden.any(dim=1) & self.present[stream]).nonzero(as_tuple=True)
        for some in rows.split(ROWS):
            values = self.inputs[stream][some]
            steps = hidden[some][:, None, :, None, None] if values.ndim == 5 else hidden[some][:, None]
            given = {name: old[some] for name, old in self.inputs.items()}
            given[stream] = values.masked_fill(steps, self.empty[stream])
            alone = {name: there[some] & (name == stream) for name, there in self.present.items()}
            new, _, _ = run(self.network, given, alone, gradients=True)  # absent streams cost nothing
            answers[some] = fuse(self.network, self._with(stream, new, some), tuple(self.present)).answer.detach()
        return answers

    def _with(self, stream: str, new: StreamOutputs, rows: Tensor) -> Windows:
        """Some of the clips as they were encoded, but for one stream."""
        old = {
            field: {name: torch.cat([getattr(part, field)[name] for part in self.parts])[rows] for name in self.present}
            for field in new._fields
        }
        for field, values in new._asdict().items():
            old[field][stream] = values[stream].detach()
        present = {name: there[rows] for name, there in self.present.items()}
        return replace(self.parts[0], rows=rows, present=present, **old)


def clips_of(network: FusionModel, parts: list[Windows], parameters: dict) -> Clips:
    """The clips that `Model.clips` gave with gradients, which are let go, of a store with these parameters."""
    parts = [_detached(part) for part in parts]

    def joined(field: str) -> dict[str, Tensor]:
        return {name: torch.cat([getattr(part, field)[name] for part in parts]) for name in parts[0].present}

    return Clips(
        network=network,
        parts=tuple(parts),
        inputs=joined("inputs"),
        empty={name: stream.nothing for name, stream in streams_of(parameters).items()},
        present=joined("present"),
        moments=joined("moments"),
        times=torch.cat([part.times for part in parts]),
        answered=torch.cat([part.answered for part in parts]),
    )


def _detached(part: Windows) -> Windows:
    fields = ("inputs", "sequences", "features", "logits", "towers")
    apart = {field: {name: value.detach() for name, value in getattr(part, field).items()} for field in fields}
    return replace(part, fused=part.fused.detach(), answer=part.answer.detach(), **apart)
