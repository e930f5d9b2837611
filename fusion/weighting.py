"""The weighted mean of separate opinions: one weight a stream and one temperature, fitted on videos held out for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

PRIOR = 1e-4  # keeps weights and temperature finite where the opinions are all right, or a stream is of no use at all
FLOOR = 1e-9  # the least probability whose logarithm is taken


@dataclass(frozen=True)
class Weighting:
    """A logarithmic opinion pool (Genest and Zidek 1986) with a temperature (Guo et al. 2017)."""

    weights: dict[str, float]  # stream → its share; they sum to one
    temperature: float  # the mean is divided by it

    def __call__(self, logits: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """{(N, K)}, {(N,) bool} → (N, K) log-probabilities: the pool over the streams that a row has.

        A row that has none says the same of every class.
        """
        strengths = torch.tensor([self.weights[name] / self.temperature for name in logits], dtype=torch.float64)
        return _pool(*_stack(logits, present), strengths)


def fit_weighting(logits: dict[str, Tensor], present: dict[str, Tensor], labels: Tensor) -> Weighting:
    """The weights and the temperature under which the labels are likeliest: {(N, K)}, {(N,) bool}, (N,) → Weighting

    Logits and log-probabilities do the same. Equal weights and a temperature of one are where it begins, and where it
    stays without rows.
    """
    opinions, there = _stack(logits, present)
    kept = there.any(dim=0)
    opinions, there, labels = opinions[:, kept], there[:, kept], labels[kept]
    start = torch.full((len(opinions),), 1 / max(1, len(opinions)), dtype=torch.float64).log()
    logarithms = start.clone().requires_grad_()  # of weight / temperature: both are positive
    search = torch.optim.LBFGS([logarithms], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = PRIOR * (logarithms - start).square().sum()
        if len(labels):
            value = value + torch.nn.functional.nll_loss(_pool(opinions, there, logarithms.exp()), labels)
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    strengths = logarithms.detach().exp()
    shares = (strengths / strengths.sum()).tolist()
    return Weighting(dict(zip(logits, shares, strict=True)), 1 / strengths.sum().item())


def log_probabilities(probabilities: Tensor) -> Tensor:
    """(N, K) → (N, K), finite also where a class was given no chance at all."""
    return probabilities.double().clamp(min=FLOOR).log()


def _stack(logits: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """{(N, K)}, {(N,)} → (S, N, K) log-probabilities, (S, N); rows of absent streams hold zeros."""
    there = torch.stack([present[name] for name in logits])
    opinions = torch.stack([logits[name].double().log_softmax(dim=1) for name in logits])
    return opinions.masked_fill(~there[:, :, None], 0.0), there


def _pool(opinions: Tensor, there: Tensor, strengths: Tensor) -> Tensor:
    """(S, N, K), (S, N), (S,) → (N, K): what an absent stream would have weighed goes to those that are there."""
    here = (strengths[:, None] * there).sum(dim=0)
    total = torch.einsum("s,snk->nk", strengths, opinions)
    return (total * (strengths.sum() / here.clamp(min=1e-300))[:, None]).log_softmax(dim=1)
