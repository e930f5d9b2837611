"""Late fusion by a weighted mean of the streams' own logits."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion.heads.head import Mask, Parts, StreamOutputs, combination, subset_number
from fusion.heads.mean import Mean, weighted_mean
from streams.registry import subsets

PRIOR = 1e-4  # keeps weights and temperature finite where all answers are right, or a stream is useless
STEPS = 200  # of L-BFGS, at most


@dataclass(frozen=True)
class Weighting:
    """A logarithmic opinion pool (Genest and Zidek 1986) with a temperature (Guo et al. 2017, section 4.2)."""

    weights: dict[str, float]  # stream → its share; they sum to one
    temperature: float  # the mean is divided by it

    def __call__(self, logits: Parts, present: Mask) -> Tensor:
        """{(N, K)}, {(N,)} → (N, K) log-probabilities: the pool over the streams that a row has.

        A row without streams gets the same for every class.
        """
        weights = {name: torch.tensor(self.weights[name], dtype=torch.float64) for name in logits}
        logits = {name: part.double() for name, part in logits.items()}
        return (weighted_mean(logits, present, weights) / self.temperature).log_softmax(dim=1)


def fit_weighting(logits: Parts, present: Mask, labels: Tensor) -> Weighting:
    """The weights and the temperature under which the labels are likeliest: {(N, K)}, {(N,)}, (N,) → Weighting

    Logits and log-probabilities give the same result. Rows without any stream do not count. The fit begins at the plain
    mean, and stays there without rows or with logits that are not finite; on these rows it is never worse.
    """
    names = list(logits)
    there = torch.stack([present[name] for name in names]).any(dim=0)
    logits = {name: part[there].double() for name, part in logits.items()}
    present, labels = {name: present[name][there] for name in names}, labels[there]
    start = torch.full((len(names),), 1 / len(names), dtype=torch.float64).log()
    logarithms = start.clone().requires_grad_()  # logarithms of weight / temperature: both are positive

    def loss(at: Tensor) -> Tensor:
        strengths = at.exp()
        mean = weighted_mean(logits, present, dict(zip(names, strengths, strict=True)))
        return cross_entropy(mean * strengths.sum(), labels) + PRIOR * (at - start).square().sum()

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(logarithms)
        value.backward()
        return value

    search = torch.optim.LBFGS([logarithms], max_iter=STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe")
    if len(labels):
        search.step(closure)
    with torch.no_grad():
        if not len(labels) or not loss(logarithms) <= loss(start):  # also true for NaN
            return Weighting(dict.fromkeys(names, 1 / len(names)), 1.0)
        strengths = logarithms.exp()
    shares = (strengths / strengths.sum()).tolist()
    return Weighting(dict(zip(names, shares, strict=True)), 1 / strengths.sum().item())


@dataclass(frozen=True)
class Weightings:
    """A weighting for each combination of streams that a row may have."""

    of: dict[tuple[str, ...], Weighting]

    def __call__(self, logits: Parts, present: Mask) -> Tensor:
        """{(N, K)}, {(N,)} → (N, K) log-probabilities, as from a Weighting."""
        rows, classes = next(iter(logits.values())).shape
        answers = torch.full((rows, classes), -math.log(classes), dtype=torch.float64)
        for subset, weighting in self.of.items():
            exactly = torch.stack([mask == (name in subset) for name, mask in present.items()]).all(dim=0)
            here = {name: logits[name][exactly] for name in subset}
            answers[exactly] = weighting(here, {name: present[name][exactly] for name in subset})
        return answers


def fit_weightings(logits: Parts, present: Mask, labels: Tensor) -> Weightings:
    """fit_weighting for each combination, with all other streams hidden: {(N, K)}, {(N,)}, (N,) → Weightings"""

    def fitted(subset: tuple[str, ...]) -> Weighting:
        return fit_weighting({name: logits[name] for name in subset}, {name: present[name] for name in subset}, labels)

    return Weightings({subset: fitted(subset) for subset in subsets(tuple(logits))})


def log_probabilities(probabilities: Tensor) -> Tensor:
    """(N, K) → (N, K): the logarithms of these probabilities, finite also for a probability of zero."""
    return probabilities.double().clamp(min=torch.finfo(torch.float64).tiny).log()


class Weighted(Mean):
    """A weight a stream and a temperature, for each combination of present streams, fitted on validation answers.

    In training it is the mean; fusion.training.fitting sets the weights. They are buffers: saved with the model, but
    not learned from the training clips, of which the streams are too sure.
    """

    fitter = staticmethod(fit_weightings)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__(channels=channels, feature=feature, classes=classes, dropout=dropout)
        combinations = 1 << len(channels)  # row k is for the streams whose bits are set in k
        self.register_buffer("weights", torch.ones(combinations, len(channels)))
        self.register_buffer("temperatures", torch.ones(combinations))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K); zeros where no stream is present"""
        if self.training:
            return super().features(outputs, present)
        rows = combination(present, self.streams)
        weights = dict(zip(self.streams, self.weights[rows].unbind(1), strict=True))
        return weighted_mean(outputs.logits, present, weights) / self.temperatures[rows, None]

    def forget(self) -> None:
        """Reset the weights: all streams weigh the same."""
        self.weights.fill_(1)
        self.temperatures.fill_(1)

    def take(self, weightings: Weightings) -> None:
        """Use these weights."""
        for subset, weighting in weightings.of.items():
            row = subset_number(subset, self.streams)
            self.weights[row] = torch.tensor([weighting.weights.get(name, 0.0) for name in self.streams])
            self.temperatures[row] = weighting.temperature
