"""Descriptions of windows: for each stream a unit vector of what it shows, and of the class that it tells; colours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasks.model import Model
from tasks.retrieval.colours import COLOURS, SIZE, colours_of
from tasks.windows import Windows

CLASS = ".class"  # ends the name of a part that tells the class; others tell the content
FUSED = "fused" + CLASS


@dataclass(frozen=True)
class Described:
    """N windows of one video. Rows of absent parts are zeros."""

    times: np.ndarray  # (N, 2) float32, begin and end in seconds
    vectors: dict[str, np.ndarray]  # part → (N, D) float32 of length 1
    present: dict[str, np.ndarray]  # part → (N,) bool

    def __len__(self) -> int:
        return len(self.times)

    def between(self, start: float, to: float | None) -> "Described":
        """The windows that meet an interval of seconds."""
        return self.of((self.times[:, 1] > start) & (self.times[:, 0] < (np.inf if to is None else to)))

    def of(self, rows: np.ndarray | slice) -> "Described":
        """Some of the windows."""
        pick = {name: values[rows] for name, values in self.vectors.items()}
        return Described(self.times[rows], pick, {name: there[rows] for name, there in self.present.items()})


def parts_of(model: Model, size: int) -> dict[str, int]:
    """The parts of a description by a model, and the length of each."""
    feature = model.settings.recipe.model.feature
    content = {name: min(size, model.network.encoders[name].tower.features) for name in model.streams}
    content |= {COLOURS: SIZE} if "rgb" in model.streams else {}
    if not model.classes:
        return content
    return content | {name + CLASS: feature for name in model.streams} | {FUSED: len(model.classes)}


def describe(model: Model, windows: Iterator[Windows], parts: dict[str, int]) -> Described:
    """All windows of one video, but for their colours."""
    found = [_describe(model, part, parts) for part in windows]
    names = [name for name in parts if name != COLOURS]
    return Described(
        times=np.concatenate([one.times for one in found]),
        vectors={name: np.concatenate([one.vectors[name] for one in found]) for name in names},
        present={name: np.concatenate([one.present[name] for one in found]) for name in names},
    )


def with_colours(found: Described, pictures: Sequence[np.ndarray | None]) -> Described:
    """The same windows with the colours of a picture, or of none, for each."""
    vectors, present = colours_of(pictures)
    return replace(found, vectors=found.vectors | {COLOURS: vectors}, present=found.present | {COLOURS: present})


def _describe(model: Model, windows: Windows, parts: dict[str, int]) -> Described:
    vectors: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for name in model.streams:
        vectors[name] = project(windows.towers[name].mean(dim=1), parts[name])
        present[name] = windows.present[name]
        if name + CLASS in parts:
            vectors[name + CLASS], present[name + CLASS] = windows.features[name], windows.present[name]
    if FUSED in parts:  # the square roots of probabilities: their product is the Bhattacharyya coefficient
        vectors[FUSED], present[FUSED] = windows.answer.float().sqrt(), windows.answered
    unit = {name: normalize(values, dim=1) * present[name][:, None] for name, values in vectors.items()}
    return Described(
        times=windows.times.float().cpu().numpy(),
        vectors={name: values.cpu().numpy() for name, values in unit.items()},
        present={name: there.cpu().numpy() for name, there in present.items()},
    )


def project(features: Tensor, size: int) -> Tensor:
    """(N, D) → (N, size) by a fixed random rotation of which `size` axes are kept, if D is larger.

    Angles stay as they are but for about 1 / sqrt(size) (Johnson and Lindenstrauss 1984).
    """
    wide = features.shape[1]
    return features if wide <= size else features @ _axes(wide, size).to(features)


def _axes(wide: int, size: int) -> Tensor:
    """(D, size), orthogonal columns, the same on every machine."""
    values = np.random.default_rng(0).standard_normal((wide, size))
    return torch.from_numpy(np.linalg.qr(values)[0])


def chosen_parts(parts: Sequence[str], *, by: str, streams: Sequence[str] | None) -> list[str]:
    """The parts that are compared: by content the streams', by class the fused answer's or those of named streams."""
    if by == "content":
        return [name for name in parts if not name.endswith(CLASS) and (streams is None or name in streams)]
    if streams is None:
        return [name for name in parts if name == FUSED]
    return [name for name in parts if name.endswith(CLASS) and name.removesuffix(CLASS) in streams]
