"""Late fusion by a mixture of the streams' own answers, each trusted by how sure it is of this clip."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from fusion.heads.head import Mask, Parts, StreamOutputs, combination, subset_number
from fusion.heads.mean import Mean
from streams.registry import subsets

PARAMETERS = 3  # of a stream: its trust, the trust's change with a nat of entropy, the logarithm of 1 / temperature
STEPS = 100  # of L-BFGS, at most


@dataclass(frozen=True)
class Gates:
    """The parameters for each combination of streams, (PARAMETERS, streams of the combination) float64."""

    of: dict[tuple[str, ...], Tensor]

    def __call__(self, logits: Parts, present: Mask) -> Tensor:
        """{(N, K)}, {(N,)} → (N, K) log-probabilities; a row without streams gets the same for every class."""
        streams = tuple(logits)
        table = gate_table(self, streams)
        return mixture(logits, present, table[combination(present, streams)])


def mixture(logits: Parts, present: Mask, parameters: Tensor) -> Tensor:
    """{(N, K)}, {(N,)}, (N or 1, PARAMETERS, S) → (N, K): log Σ_s g_s softmax(l_s / T_s), over the present streams.

    A linear opinion pool, whose gate g is a softmax over the streams of trust_s + slope_s · (entropy_s − 1), as in a
    mixture of experts (Jacobs et al. 1991): a stream that is wrong and sure spoils a sum less than a product.
    """
    trust, slope, sharpness = parameters.unbind(1)
    there = torch.stack([*present.values()], dim=1)
    shown = torch.stack([*logits.values()], dim=1).masked_fill(~there[..., None], 0.0)  # (N, S, K)
    answers = (shown * sharpness.exp()[..., None]).log_softmax(dim=2)
    entropy = -(answers.exp() * answers).sum(dim=2)
    gates = (trust + slope * (entropy - 1)).masked_fill(~there, -torch.inf)
    gates = torch.where(there.any(dim=1, keepdim=True), gates, 0.0).log_softmax(dim=1)
    return (gates[..., None] + answers).logsumexp(dim=1)


def fit_gates(logits: Parts, present: Mask, labels: Tensor) -> Gates:
    """The gates under which the labels are likeliest, for each combination, with all other streams hidden.

    {(N, K)}, {(N,)}, (N,) → Gates. Each parameter has a normal prior of variance 1/2 about zero, equal trust. Without
    rows, or with logits that are not finite, it stays there.
    """
    return Gates({subset: _fit_subset(subset, logits, present, labels) for subset in subsets(tuple(logits))})


def _fit_subset(subset: tuple[str, ...], logits: Parts, present: Mask, labels: Tensor) -> Tensor:
    rows = torch.stack([present[name] for name in subset]).any(dim=0)
    logits = {name: logits[name][rows].double() for name in subset}
    present, labels = {name: present[name][rows] for name in subset}, labels[rows]
    start = torch.zeros(PARAMETERS, len(subset), dtype=torch.float64)
    found = start.clone().requires_grad_()

    def loss(at: Tensor) -> Tensor:
        return nll_loss(mixture(logits, present, at[None]), labels) + at.square().sum() / len(labels)

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(found)
        value.backward()
        return value

    search = torch.optim.LBFGS([found], max_iter=STEPS, line_search_fn="strong_wolfe")
    if len(labels):
        search.step(closure)
    with torch.no_grad():
        better = bool(len(labels)) and bool(loss(found) <= loss(start))  # not for NaN
    return found.detach() if better else start


def gate_table(gates: Gates, streams: tuple[str, ...]) -> Tensor:
    """(2^S, PARAMETERS, S) float64: the parameters by the number of the combination."""
    table = torch.zeros(1 << len(streams), PARAMETERS, len(streams), dtype=torch.float64)
    for subset, parameters in gates.of.items():
        table[subset_number(subset, streams)][:, [streams.index(name) for name in subset]] = parameters
    return table


class Mixture(Mean):
    """A mixture whose gate depends on each stream's entropy, fitted on validation answers.

    In training it is the mean; fusion.training.fitting sets the gates, buffers that are saved with the model.
    """

    fitter = staticmethod(fit_gates)

    def __init__(self, *, channels: dict[str, int], feature: int, classes: int, dropout: float) -> None:
        super().__init__(channels=channels, feature=feature, classes=classes, dropout=dropout)
        self.register_buffer("gates", torch.zeros(1 << len(channels), PARAMETERS, len(channels)))

    def features(self, outputs: StreamOutputs, present: Mask) -> Tensor:
        """logits {(B, K)}, present {(B,)} → (B, K), log-probabilities, or in training the mean of the logits"""
        if self.training:
            return super().features(outputs, present)
        logits = {name: outputs.logits[name].float() for name in self.streams}
        present = {name: present[name] for name in self.streams}
        return mixture(logits, present, self.gates[combination(present, self.streams)])

    def forget(self) -> None:
        """Reset the gates: all streams are trusted alike."""
        self.gates.zero_()

    def take(self, gates: Gates) -> None:
        """Use these gates."""
        self.gates.copy_(gate_table(gates, self.streams))
