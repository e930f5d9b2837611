"""Late fusion by stacking: the streams' own opinions, each corrected by what validation answers show of it."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.heads.head import Mask, Parts, StreamOutputs, visible
from fusion.heads.mean import Mean

FLOOR = -10.0  # the least that a stream's log-probability counts as: alone it cannot rule a class out
PRIOR = 10.0  # videos: half the precision of the Gaussian around "as it is" that every number of a map comes from
STEPS = 300  # of L-BFGS, at the most


@dataclass(frozen=True)
class Stacking:
    """Stacked generalisation (Wolpert 1992) of the streams' log-probabilities by a linear model, as Ting and Witten
    (1999) found best: a stream's usual confusions are undone, and classes weigh as much as it knows of them.
    """

    maps: dict[str, Tensor]  # stream → (K, K), from what it says to what follows from it
    offsets: dict[str, Tensor]  # stream → (K,)

    def __call__(self, logits: Parts, present: Mask) -> Tensor:
        """{(N, K)}, {(N,)} → (N, K): log-probabilities from the streams that a row has.

        A row that has none says the same of every class.
        """
        parts = {name: said(part.double()) @ self.maps[name] + self.offsets[name] for name, part in logits.items()}
        return sum(visible(parts, present, parts)).log_softmax(dim=1)


def as_it_is(names: list[str], classes: int) -> Stacking:
    """Nothing is fitted: the product of the opinions."""
    return Stacking(
        {name: torch.eye(classes, dtype=torch.float64) for name in names},
        {name: torch.zeros(classes, dtype=torch.float64) for name in names},
    )


def said(logits: Tensor) -> Tensor:
    """(N, K) → (N, K): log-probabilities, none of them below the floor."""
    return logits.log_softmax(dim=1).clamp(min=FLOOR)


def fit_stacking(logits: Parts, present: Mask, labels: Tensor) -> Stacking:
    """The likeliest maps, given the prior: {(N, K)}, {(N,)}, (N,) → Stacking

    Every row is asked with each subset of the streams, so that one fit serves whatever is there. Logits and
    log-probabilities do the same. Without rows, and with opinions that are not finite, all stays as it is; on these
    rows the result is no worse than that.
    """
    names, classes = list(logits), next(iter(logits.values())).shape[1]
    start = as_it_is(names, classes)
    if not len(labels):
        return start
    opinions = torch.stack(visible({n: said(part.double()) for n, part in logits.items()}, present, names))  # (S, N, K)
    there = torch.stack([present[name] for name in names])  # (S, N)
    asked = torch.tensor([*product([False, True], repeat=len(names))])[1:]  # (subsets, S)
    shown = asked[:, :, None] & there  # (subsets, S, N)
    answerable = shown.any(dim=1)  # (subsets, N)
    targets = labels.expand(len(asked), -1)[answerable]
    identity = torch.eye(classes, dtype=torch.float64)
    changes = torch.zeros(len(names), classes, classes, dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(len(names), classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        parts = opinions @ (identity + changes) + offsets[:, None]
        answers = torch.einsum("psn,snk->pnk", shown.double(), parts)[answerable]
        prior = PRIOR * (changes.square().sum() + offsets.square().sum())
        return (cross_entropy(answers, targets, reduction="sum") / len(asked) + prior) / len(labels)

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
        if not loss() <= before:  # nor where it has become NaN
            return start
    maps = (identity + changes).detach()
    return Stacking(dict(zip(names, maps, strict=True)), dict(zip(names, offsets.detach(), strict=True)))


class Stacked(Mean):
    """An affine map of each present stream's log-probabilities, added up.

    In training it is the mean; fusion.training.fitting fits the maps, which are buffers: saved with the model, not
    learned from the clips that the streams were trained on and know by heart.
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
        """Of a single stream, what it says itself."""
        self.take(as_it_is(list(self.streams), self.offsets.shape[1]))

    def take(self, stacking: Stacking) -> None:
        """Answer with these maps."""
        self.maps.copy_(torch.stack([stacking.maps[name] for name in self.streams]))
        self.offsets.copy_(torch.stack([stacking.offsets[name] for name in self.streams]))
