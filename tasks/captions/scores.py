"""Scores of captions against references: BLEU, ROUGE-L and CIDEr-D, as pycocoevalcap computes them."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tasks.captions.vocabulary import words_of

LONGEST = 4  # words of an n-gram
BETA = 1.2  # of ROUGE-L: how much more recall counts than precision
SIGMA = 6.0  # words by which lengths may differ in CIDEr-D

Grams = Counter[tuple[str, ...]]


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The scores of captions, each against its own references; words in lower case, without punctuation."""
    said = [words_of(text) for text in captions]
    true = [[words_of(text) for text in its] for its in references]
    return {"CIDEr-D": cider_d(said, true), "BLEU-4": bleu(said, true), "ROUGE-L": rouge_l(said, true)}


def bleu(said: Sequence[list[str]], true: Sequence[list[list[str]]]) -> float:
    """BLEU-4 of a corpus (Papineni et al. 2002); the length is compared with that of the nearest reference."""
    hits, totals, ours, theirs = [0] * LONGEST, [0] * LONGEST, 0, 0
    for words, references in zip(said, true, strict=True):
        ours += len(words)
        theirs += min((abs(len(other) - len(words)), len(other)) for other in references)[1]
        most: Grams = Counter()
        for other in references:
            most |= grams(other)
        for gram, count in grams(words).items():
            totals[len(gram) - 1] += count
            hits[len(gram) - 1] += min(count, most[gram])
    if not min(hits):
        return 0.0
    precision = math.exp(sum(math.log(hit / total) for hit, total in zip(hits, totals, strict=True)) / LONGEST)
    return precision * min(1.0, math.exp(1 - theirs / ours))


def rouge_l(said: Sequence[list[str]], true: Sequence[list[list[str]]]) -> float:
    """ROUGE-L (Lin 2004), the mean over captions; the best precision and the best recall over the references."""
    values = []
    for words, references in zip(said, true, strict=True):
        shared = [longest_common(words, other) for other in references]
        precision = max(count / max(1, len(words)) for count in shared)
        recall = max(count / max(1, len(other)) for count, other in zip(shared, references, strict=True))
        both = recall + BETA**2 * precision
        values.append((1 + BETA**2) * precision * recall / both if both else 0.0)
    return float(np.mean(values))


def cider_d(said: Sequence[list[str]], true: Sequence[list[list[str]]]) -> float:
    """CIDEr-D (Vedantam et al. 2015), n from 1 to 4, the mean over captions, times 10.

    The rarity of an n-gram is that in the references themselves; of a single video all are alike, and the score is 0.
    """
    seen = Counter(gram for its in true for gram in {gram for other in its for gram in grams(other)})
    videos = math.log(len(true))

    def vectors(words: list[str]) -> tuple[list[dict], list[float]]:
        found: list[dict] = [{} for _ in range(LONGEST)]
        for gram, count in grams(words).items():
            found[len(gram) - 1][gram] = count * (videos - math.log(max(1, seen[gram])))
        return found, [math.sqrt(sum(value**2 for value in part.values())) for part in found]

    values = []
    for words, references in zip(said, true, strict=True):
        ours, our_norms = vectors(words)
        total = 0.0
        for other in references:
            theirs, their_norms = vectors(other)
            near = math.exp(-((len(words) - len(other)) ** 2) / (2 * SIGMA**2))
            for mine, its, one, two in zip(ours, theirs, our_norms, their_norms, strict=True):
                shared = sum(min(value, its[gram]) * its[gram] for gram, value in mine.items() if gram in its)
                total += near * shared / (one * two) if one and two else 0.0
        values.append(10 * total / LONGEST / len(references))
    return float(np.mean(values))


def grams(words: Sequence[str]) -> Grams:
    """The n-grams of one to four words, and how often each occurs."""
    return Counter(tuple(words[at : at + n]) for n in range(1, LONGEST + 1) for at in range(len(words) - n + 1))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, its in enumerate(other, start=1):
            before, row[at] = row[at], before + 1 if word == its else max(row[at], row[at - 1])
    return row[-1]
