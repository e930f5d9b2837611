"""Late fusion by stacking: the streams' own log-probabilities, corrected by maps fitted on validation answers."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.heads.head import Mask, Parts, StreamOutputs, visible
from fusion.heads.mean import Mean

FLOOR = -10.0  # lower bound of a stream's log-probability: no stream alone can rule a class out
PRIOR = 10.0  # videos: half the precision of the Gaussian prior of each entry of a map, around the identity
STEPS = 300  # of L-BFGS, at most


@dataclass(frozen=True)
class Stacking:
    """Stacked generalisation (Wolpert 1992) of the streams' log-probabilities by a linear model, as Ting and Witten
    (1999) found best: a stream's usual confusions are undone, and it weighs most in the classes it knows best.
    """

    maps: dict[str, Tensor]  # stream → (K, K), from its log-probabilities to its share of the fused ones
    offsets: dict[str, Tensor]  # stream → (K,)

    def __call__(self, logits: Parts, present: Mask) -> Tensor:
        """{(N, K)}, {(N,)} → (N, K): log-probabilities from the streams that a row has.

        A row without streams gets the same for every class.
        """
        parts = {name: said(part.double()) @ self.maps[name] + self.offsets[name] for name, part in logits.items()}
        return sum(visible(parts, present, parts)).log_softmax(dim=1)


def as_it_is(names: list[str], classes: int) -> Stacking:
    """The maps before any fit: the product of the streams' probabilities."""
    return Stacking(
        {name: torch.eye(classes, dtype=torch.float64) for name in names},
        {name: torch.zeros(classes, dtype=torch.float64) for name in names},
    )


def said(logits: Tensor) -> Tensor:
    """(N, K) → (N, K): log-probabilities, none of them below FLOOR."""
    return logits.log_softmax(dim=1).clamp(min=FLOOR)


def fit_stacking(logits: Parts, present: Mask, labels: Tensor) -> Stacking:
    """The likeliest maps, given the prior: {(N, K)}, {(N,)}, (N,) → Stacking

    Every row is used with each subset of the streams, so that one fit serves all subsets. Logits and log-probabilities
    give the same result. Without rows, or with logits that are not finite, the maps are those of `as_it_is`; on these
    rows the result is never worse than that.
    """
    names, classes = list(logits), next(iter(logits.values())).shape[1]
    start = as_it_is(names, classes)
    if not len(labels):
        return start
    scores = torch.stack(visible({n: said(part.double()) for n, part in logits.items()}, present, names))  # (S, N, K)
    there = torch.stack([present[name] for name in names])  # (S, N)
    subsets = torch.tensor([*product([False, True], repeat=len(names))])[1:]  # (subsets, S)
    shown = subsets[:, :, None] & there  # (subsets, S, N)
    answerable = shown.any(dim=1)  # (subsets, N)
    targets = labels.expand(len(subsets), -1)[answerable]
    identity = torch.eye(classes, dtype=torch.float64)
    changes = torch.zeros(len(names), classes, classes, dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(len(names), classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        parts = scores @ (identity + changes) + offsets[:, None]
        answers = torch.einsum("psn,snk->pnk", shown.double(), parts)[answerable]
        prior = PRIOR * (changes.square().sum() + offsets.square().sum())
        return (cross_entropy(answers, targets, reduction="sum") / len(subsets) + prior) / len(labels)

    def closure() -> Tensor:
        search.zero_grad()
        value = loss()
        value.backward()
        return value

    search = torch.optim.LBFGS([changes, offsets], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    with torch.no_grad():
        before = loss()
    search.step(closure)
    with torch.no_grad():
        if not loss() <= before:  # also true for NaN
            return start
    maps = (identity + changes).detach()
    return Stacking(dict(zip(names, maps, strict=True)), dict(zip(names, offsets.detach(), strict=True)))


class Stacked(Mean):
    """An affine map of each present stream's log-probabilities, added up.

    In training it is the mean; fusion.training.fitting fits the maps. They are buffers: saved with the model, but not
    learned from the training clips, which the streams know by heart.
    """

    fitter = staticmethod(fit_stacking)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__(channels=channels, feature=feature, classes=classes, dropout=dropout)
        self.register_buffer("maps", torch.eye(classes).repeat(len(channels), 1, 1))
        self.register_buffer("offsets", torch.zeros(len(channels), classes))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        if self.training:
            return super().features(outputs, present)
        corrected = {
            name: said(outputs.logits[name].float()) @ self.maps[row] + self.offsets[row]
            for row, name in enumerate(self.streams)
        }
        return sum(visible(corrected, present, self.streams))

    def forget(self) -> None:
        """Reset the maps: a single stream then gives its own answer."""
        self.take(as_it_is(list(self.streams), self.offsets.shape[1]))

    def take(self, stacking: Stacking) -> None:
        """Use these maps."""
        self.maps.copy_(torch.stack([stacking.maps[name] for name in self.streams]))
        self.offsets.copy_(torch.stack([stacking.offsets[name] for name in self.streams]))
