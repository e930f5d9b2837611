"""What a model says of a video over time: one answer a window, and each stream's share in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from torch import Tensor

from streams.registry import subsets
from tasks.model import Model
from tasks.shapley import shares
from tasks.sources import Source
from tasks.windows import Windows


@dataclass(frozen=True)
class Timeline:
    """The answers for N windows of one video, in the order of time. K is the number of classes."""

    video: str  # its name in the source
    classes: list[str]
    times: np.ndarray  # (N, 2) begin and end of each window in seconds
    answer: np.ndarray  # (N, K) probabilities from all present streams; zeros if none is
    streams: dict[str, np.ndarray]  # stream → (N, K) from it alone; zeros where it is absent
    present: dict[str, np.ndarray]  # stream → (N,) bool
    shares: dict[str, np.ndarray]  # stream → (N,) see `shapley.shares`: of the likeliest class

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """The end of the last window, which is the video's."""
        return float(self.times[-1, 1])


def timelines(
    model: Model,
    source: Source,
    *,
    length: float | None = None,
    hop: float | None = None,
    streams: Sequence[str] | None = None,
    video: str | None = None,
    bar: str | None = None,
    keep: bool = False,
) -> Iterator[Timeline]:
    """The timeline of each video of a source, one after the other; `streams` are the only ones that are used.

    Other arguments, and errors, are those of `Model.windows`.
    """
    model.check_classifier()
    chosen = model.choose(streams)
    windows = model.windows(source, length=length, hop=hop, video=video, bar=bar, keep=keep)
    parts = (part for found in windows for part in of_windows(model, found, chosen))
    for _, same in groupby(parts, key=lambda numbered: numbered[0]):
        yield joined([part for _, part in same])


def of_windows(model: Model, windows: Windows, streams: Sequence[str]) -> Iterator[tuple[int, Timeline]]:
    """The number of each video in `windows`, and the timeline of its windows there."""
    answers = {frozenset(names): model.fuse(windows, names).answer for names in subsets(streams)}
    answer = answers[frozenset(streams)]
    present = {name: windows.present[name] for name in streams}
    shared = shares(answers, answer.argmax(dim=1), streams)
    rows = windows.rows.tolist()
    for row in dict.fromkeys(rows):
        its = windows.rows == row

        def part(values: Tensor, its: Tensor = its) -> np.ndarray:
            return values[its].cpu().numpy()

        yield (
            row,
            Timeline(
                video=windows.videos[rows.index(row)],
                classes=model.classes,
                times=part(windows.times),
                answer=part(answer),
                streams={name: part(answers[frozenset([name])]) for name in streams},
                present={name: part(there) for name, there in present.items()},
                shares={name: part(share) for name, share in shared.items()},
            ),
        )


def joined(parts: Sequence[Timeline]) -> Timeline:
    """Timelines of one video that follow each other, as one."""

    def each(field: str) -> dict[str, np.ndarray]:
        return {name: np.concatenate([getattr(part, field)[name] for part in parts]) for name in parts[0].streams}

    return Timeline(
        video=parts[0].video,
        classes=parts[0].classes,
        times=np.concatenate([part.times for part in parts]),
        answer=np.concatenate([part.answer for part in parts]),
        streams=each("streams"),
        present=each("present"),
        shares=each("shares"),
    )
