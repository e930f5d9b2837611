"""Window features of whole videos, as temporal heads read them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from tasks.events.event import Event
from tasks.model import Model
from tasks.sources import Source
from tasks.windows import Windows


@dataclass(frozen=True)
class VideoFeatures:
    """N windows of one video at a constant hop; window k is the time `first + k * hop`."""

    video: str
    seconds: float
    first: float  # seconds: the middle of the first window
    hop: float  # seconds
    features: dict[str, Tensor]  # stream → (N, D)
    present: dict[str, Tensor]  # stream → (N,) bool

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def position(self, seconds: np.ndarray) -> np.ndarray:
        """Time in seconds → in windows."""
        return (seconds - self.first) / self.hop

    def seconds_at(self, position: np.ndarray) -> np.ndarray:
        """Time in windows → in seconds."""
        return self.first + position * self.hop

    def of(self, streams: Sequence[str]) -> "VideoFeatures":
        """Without all other streams."""
        return replace(
            self,
            features={name: self.features[name] for name in streams},
            present={name: self.present[name] for name in streams},
        )

    def part(self, begin: int, end: int) -> "VideoFeatures":
        """The windows from `begin` until `end`."""
        return replace(
            self,
            first=self.first + begin * self.hop,
            features={name: values[begin:end] for name, values in self.features.items()},
            present={name: there[begin:end] for name, there in self.present.items()},
        )

    def spans(self, events: Sequence[Event]) -> np.ndarray:
        """(E, 2) begin and end of events in windows."""
        return self.position(np.array([(event.start, event.end) for event in events]).reshape(-1, 2))


def sequences(
    model: Model,
    source: Source,
    *,
    length: float | None,
    hop: float,
    video: str | None = None,
    keep: bool = False,
    bar: str | None = None,
) -> Iterator[VideoFeatures]:
    """Each video's windows, `hop` seconds apart; a window's features are those of its streams and their answers.

    With `keep`, what frozen towers make of a store stays beside it. Errors are those of Model.windows.
    """
    hop = max(1, round(hop * model.fps)) / model.fps
    windows = model.windows(source, length=length, hop=hop, video=video, keep=keep, bar=bar)
    parts = (part for some in windows for part in _parts(some))
    for (_, video), same in groupby(parts, key=lambda part: part[:2]):
        found = [part for _, _, part in same]
        times = torch.cat([part["times"] for part in found]).cpu().numpy()
        regular = np.isclose(times[:, 0], np.arange(len(times)) * hop)  # the last may be moved, to end with the video
        regular[0] = True
        there = torch.from_numpy(regular)
        join = {
            field: {name: torch.cat([part[field][name] for part in found])[there] for name in model.streams}
            for field in ("features", "present")
        }
        yield VideoFeatures(video=video, seconds=float(times[-1, 1]), first=float(times[0].mean()), hop=hop, **join)


def _parts(windows: Windows) -> Iterator[tuple[int, str, Mapping]]:
    """The windows of each video by itself."""
    rows = windows.rows.tolist()
    for row in dict.fromkeys(rows):
        its = windows.rows == row
        yield (
            row,
            windows.videos[rows.index(row)],
            {
                "times": windows.times[its],
                "features": {name: _features(windows, name)[its].cpu() for name in windows.present},
                "present": {name: there[its].cpu() for name, there in windows.present.items()},
            },
        )


def _features(windows: Windows, stream: str) -> Tensor:
    """(N, D + K): a stream's feature and its own answer, if it has one."""
    parts = [windows.features[stream].float(), windows.logits[stream].float().log_softmax(dim=1)]
    return torch.cat(parts, dim=1)
