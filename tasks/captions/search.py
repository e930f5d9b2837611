"""Beam search: the best sentences, word by word."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LENGTH = 0.7  # power of the number of words that a sentence's log-probability is divided by, as is usual


class Sentence(NamedTuple):
    """A sentence, and the natural log of its probability."""

    text: str
    score: float


def beam_search(
    log_probabilities: Callable[[Tensor], Tensor],
    *,
    clips: int,
    beam: int,
    start: int,
    end: int,
    longest: int,
    length: float = LENGTH,
) -> list[tuple[list[int], float]]:
    """For each clip the numbers of the words after `start`, and the sum of their log-probabilities.

    Sentences are ranked by that sum over a power of the number of their words (Wu et al. 2016, section 7): by the sum
    alone, a short sentence is best that leaves out what is uncertain. A sentence that has ended keeps its place, and no
    word is added to it.

    Args:
        log_probabilities: (B, K, L) int64, the words of K sentences so far → (B, K, V), of the next one.
        longest: words, the end among them, after which a sentence is cut.
        length: the power; 0 ranks by the sum.
    """
    words = torch.full((clips, 1, 1), start)
    scores, counts = torch.zeros(clips, 1), torch.zeros(clips, 1)  # a sentence's end counts as a word
    ended = torch.zeros(clips, 1, dtype=torch.bool)
    for _ in range(longest if clips else 0):
        following = log_probabilities(words)
        words, scores, counts, ended = (part.to(following.device) for part in (words, scores, counts, ended))
        stay = torch.full_like(following[0, 0], -torch.inf)
        stay[end] = 0.0
        total = scores[..., None] + torch.where(ended[..., None], stay, following)
        counts = counts + ~ended
        ranks = (total / counts[..., None] ** length).flatten(1)
        ranks, chosen = ranks.topk(min(beam, ranks.shape[1]), dim=1)
        source, word = chosen // total.shape[2], chosen % total.shape[2]
        scores, counts = total.flatten(1).gather(1, chosen), counts.gather(1, source)
        words = torch.cat([words.gather(1, source[..., None].expand(-1, -1, words.shape[2])), word[..., None]], dim=2)
        ended = ended.gather(1, source) | (word == end)
        hope = (scores / longest**length).masked_fill(ended, -torch.inf).amax(dim=1)  # if no more words cost anything
        if (ended[:, 0] & (ranks[:, 0] >= hope)).all():
            break
    best = words[:, 0, 1:].tolist()
    return list(zip(best, scores[:, 0].tolist(), strict=True))
