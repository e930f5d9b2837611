"""A bank of normal examples: how far something is from the nearest of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROWS = 2048  # that are compared with the bank at a time
LEAST_SPREAD = 1e-3  # of a feature, so that one that hardly varies does not count for more than all others


@dataclass(frozen=True)
class Bank:
    """Examples, each feature divided by its standard deviation over them."""

    examples: Tensor  # (K, D) float32, divided
    spread: Tensor  # (D,)
    stretch: Tensor  # (K,) int64: the stretch of normal video that each is from

    def distances(self, rows: Tensor, *, but: int | None = None) -> Tensor:
        """(N, D) → (N,): the Euclidean distance to the nearest example, not counting those of stretch `but`.

        Nearest neighbours of patch features tell anomalies as in PatchCore (Roth et al., CVPR 2022).
        """
        examples = self.examples if but is None else self.examples[self.stretch != but]
        parts = [torch.cdist(part / self.spread, examples).amin(dim=1) for part in rows.split(ROWS)]
        return torch.cat(parts) if parts else rows.new_zeros(0)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved of it: half precision is finer than its examples are alike."""
        return {"examples": self.examples.half(), "spread": self.spread, "stretch": self.stretch}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], device: torch.device) -> "Bank":
        found = {name: value.to(device) for name, value in tensors.items()}
        return cls(found["examples"].float(), found["spread"], found["stretch"])


class Choice:
    """At most `size` examples, drawn with equal chance from all that are added, however many."""

    def __init__(self, size: int, *, seed: int) -> None:
        self._size, self._rng = size, np.random.default_rng(seed)
        self._rows: list[Tensor] = []
        self._keys: list[np.ndarray] = []  # the smallest stay
        self._stretch: list[np.ndarray] = []

    def add(self, rows: Tensor, stretch: int) -> None:
        """(N, D), of one stretch of video."""
        self._rows.append(rows.cpu())
        self._keys.append(self._rng.random(len(rows)))
        self._stretch.append(np.full(len(rows), stretch))
        if sum(map(len, self._keys)) > 2 * self._size:
            self._thin()

    def bank(self) -> Bank | None:
        """The bank; None if nothing was added, or all is from one stretch, of which nothing else is normal."""
        if not any(map(len, self._keys)):
            return None
        self._thin()
        rows, stretch = self._rows[0], torch.from_numpy(self._stretch[0])
        if len(stretch.unique()) < 2:
            return None
        spread = rows.std(dim=0).clamp(min=LEAST_SPREAD)
        return Bank(rows / spread, spread, stretch)

    def _thin(self) -> None:
        keys = np.concatenate(self._keys)
        stay = np.argsort(keys)[: self._size]
        self._rows = [torch.cat(self._rows)[torch.from_numpy(stay)]]
        self._keys, self._stretch = [keys[stay]], [np.concatenate(self._stretch)[stay]]
