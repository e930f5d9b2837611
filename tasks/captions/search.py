"""Beam search: the likeliest sentences, word by word."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Sentence(NamedTuple):
    """A sentence, and the natural log of its probability."""

    text: str
    score: float


def beam_search(
    log_probabilities: Callable[[Tensor], Tensor], *, clips: int, beam: int, start: int, end: int, longest: int
) -> list[tuple[list[int], float]]:
    """For each clip the numbers of the words after `start`, and the sum of their log-probabilities.

    Sums are not divided by the length. A sentence that has ended keeps its place, and no word is added to it.

    Args:
        log_probabilities: (B, K, L) int64, the words of K sentences so far → (B, K, V), of the next one.
        longest: words, the end among them, after which a sentence is cut.
    """
    words = torch.full((clips, 1, 1), start)
    scores = torch.zeros(clips, 1)
    ended = torch.zeros(clips, 1, dtype=torch.bool)
    for _ in range(longest if clips else 0):
        following = log_probabilities(words)
        words, scores, ended = (part.to(following.device) for part in (words, scores, ended))
        stay = torch.full_like(following[0, 0], -torch.inf)
        stay[end] = 0.0
        total = scores[..., None] + torch.where(ended[..., None], stay, following)
        scores, chosen = total.flatten(1).topk(min(beam, total[0].numel()), dim=1)
        source, word = chosen // total.shape[2], chosen % total.shape[2]
        words = torch.cat([words.gather(1, source[..., None].expand(-1, -1, words.shape[2])), word[..., None]], dim=2)
        ended = ended.gather(1, source) | (word == end)
        if ended[:, 0].all():  # none that goes on can become likelier than the best that has ended
            break
    best = words[:, 0, 1:].tolist()
    return list(zip(best, scores[:, 0].tolist(), strict=True))
