"""Whether maps can be believed: do they depend on what the model has learned, and is what they name what counts?"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from streams.temporal import TEMPORAL
from tasks.explain.clips import Clips
from tasks.explain.maps import Maps, integrated_gradients, smoothed

LEVELS = 10  # shares of the input at which the curves are taken: 0, 1/10 … 1
DRAWS = 8  # of places at random: of some videos a single draw happens to have most of what counts among its first
ALIKE = 0.5  # rank correlation from which on two maps say the same
PARTS = {
    "the heads": ("head.", "auxiliary."),
    "and the models of time": tuple(f".{kind}." for kind in TEMPORAL),
    "and the towers": (".tower.",),
}
# the last learned things first, each with all before


@dataclass(frozen=True)
class Curves:
    """The probability of the class while more and more of the input is replaced. Shares are 0, 0.1 … 1."""

    deletion: list[float]  # what counts most is replaced by nothing first
    insertion: list[float]  # nothing is replaced by what counts most first
    deletion_at_random: list[float]  # the same with places drawn at random, the mean of DRAWS
    insertion_at_random: list[float]

    @property
    def areas(self) -> dict[str, float]:
        """Area under each curve: small for a good deletion, large for a good insertion."""
        return {name: area(curve) for name, curve in vars(self).items()}


@dataclass(frozen=True)
class Check:
    """The measurements of the maps of one video."""

    similarity: dict[str, dict[str, float]]  # what has random weights → stream → rank correlation with the true map
    curves: Curves

    @property
    def depends_on_weights(self) -> bool:
        """True if no stream's map stays what it is when all weights are random."""
        return all(abs(alike) < ALIKE for alike in list(self.similarity.values())[-1].values())

    @property
    def finds_what_counts(self) -> bool:
        """True if both curves are better than with places at random."""
        areas = self.curves.areas
        return areas["deletion"] < areas["deletion_at_random"] and areas["insertion"] > areas["insertion_at_random"]


def check(clips: Clips, maps: Maps, target: int, *, steps: int, seed: int = 0, bar: str | None = None) -> Check:
    """Compare maps with those of models with random weights, and take the curves of deletion and insertion."""
    similarity = {}
    for name, network in randomised(clips.network, seed=seed):
        others = integrated_gradients(replace(clips, network=network), target, steps=steps, bar=bar)
        similarity[name] = {one: rank_correlation(maps.values[one], others.values[one]) for one in clips.streams}
    return Check(similarity, curves(clips, maps, target, seed=seed))


def randomised(network: nn.Module, *, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """What is random, and a copy of the network in which it is: the last layers first, then with those before them.

    Cascading randomisation (Adebayo et al. 2018, section 3.1). Each tensor's entries change places, so that they have
    the same distribution, and hold nothing that was learned.
    """
    network = deepcopy(network)
    random = torch.Generator().manual_seed(seed)
    for name, parts in PARTS.items():
        with torch.no_grad():
            for key, tensor in network.named_parameters():
                if any(part in f".{key}" if part.startswith(".") else key.startswith(part) for part in parts):
                    order = torch.randperm(tensor.numel(), generator=random).to(tensor.device)
                    tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))
        yield name, network


def curves(clips: Clips, maps: Maps, target: int, *, seed: int = 0) -> Curves:
    """Deletion and insertion (Petsiuk et al. 2018, section 4.1), of all streams at once, in each the same share.

    Places at random are as smooth as the maps, so that both leave pieces of the same kind.
    """
    random = torch.Generator().manual_seed(seed)
    noise = (
        {name: torch.randn(one.shape, generator=random).to(one.device) for name, one in maps.values.items()}
        for _ in range(DRAWS)
    )
    at_random = zip(*(_pair(clips, values, target) for values in noise), strict=True)
    return Curves(*_pair(clips, maps.values, target), *(torch.tensor(curves).mean(0).tolist() for curves in at_random))


def _pair(clips: Clips, values: dict[str, Tensor], target: int) -> tuple[list[float], list[float]]:
    """The curves of deletion and insertion in the order of `values`."""
    nothing = clips.nothing()
    ranks = {name: _ranks(smoothed(one)) for name, one in values.items()}

    def curve(whole: dict[str, Tensor], empty: dict[str, Tensor]) -> list[float]:
        found = []
        for level in range(LEVELS + 1):
            given = {
                name: torch.where(_wide(ranks[name] < level / LEVELS, whole[name]), empty[name], whole[name])
                for name in ranks
            }
            found.append(clips.answers(given)[clips.answered, target].mean().item())
        return found

    return curve(clips.inputs, nothing), curve(nothing, clips.inputs)


def area(curve: list[float]) -> float:
    """Area under a curve over 0…1, by trapezoids."""
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's, of two smoothed maps; 0 if one of them is the same everywhere."""
    ranks = torch.stack([smoothed(values).flatten().double().argsort().argsort().double() for values in (one, other)])
    if min(values.std().item() for values in (one, other)) == 0:
        return 0.0
    return torch.corrcoef(ranks)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    """(N, …) → the share of each clip's places that counts more, in [0, 1)."""
    flat = values.flatten(1)
    return (flat.argsort(dim=1, descending=True).argsort(dim=1) / flat.shape[1]).reshape(values.shape)


def _wide(mask: Tensor, values: Tensor) -> Tensor:
    """(N, T, H, W) → (N, 1, T, H, W), for all channels; (N, M, T) as it is."""
    return mask[:, None] if values.ndim == 5 else mask
