"""Each stream's steps tell by themselves which words the caption has, while a captioner learns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tasks.captions.evidence import Evidence
from tasks.captions.vocabulary import SIGNS, Vocabulary

RARE = -4.0  # logit of a word at a step at first
LEAST = 1e-6  # of the probability that a word of the caption is nowhere, so that its logarithm stays finite


class Concepts(nn.Module):
    """A detector of each word for each stream. A word is in the caption if it is at one step or more: noisy or.

    Multiple-instance learning of words (Fang et al. 2015, equation 1). An encoder whose steps tell words is learned in
    fewer passes than by a decoder that has to find out where to look at the same time; and each stream learns what it
    shows by itself, not what another shows already.
    """

    def __init__(self, vocabulary: Vocabulary, *, channels: dict[str, int]) -> None:
        """channels: stream → C of its steps"""
        super().__init__()
        self.vocabulary = vocabulary
        self.tell = nn.ModuleDict({name: nn.Linear(size, len(vocabulary)) for name, size in channels.items()})
        for layer in self.tell.values():
            nn.init.constant_(layer.bias, RARE)

    def loss(self, evidence: Evidence, texts: Sequence[str]) -> Tensor:
        """Binary cross entropy of the words of each clip's caption, by each word of it: the mean of streams, → ()"""
        said = self._said(texts).to(next(self.parameters()).device)
        total, rows = said.new_zeros(()), 0
        for name, layer in self.tell.items():
            there = evidence.present[name]
            if not there.any():
                continue
            absent = logsigmoid(-layer(evidence.steps[name][there])).sum(dim=1).clamp(max=-LEAST)  # (b, V), logarithms
            present = torch.log(-torch.expm1(absent))
            words = said[there]
            wrong = -(words * present + (1 - words) * absent)[:, len(SIGNS) :].sum(dim=1)
            total = total + (wrong / words.sum(dim=1).clamp(min=1)).sum()
            rows += len(words)
        return total / max(rows, 1)

    def _said(self, texts: Sequence[str]) -> Tensor:
        """(B, V) of zeros and ones"""
        said = torch.zeros(len(texts), len(self.vocabulary))
        for row, text in zip(said, texts, strict=True):
            row[self.vocabulary.encode(text)] = 1
            row[: len(SIGNS)] = 0
        return said
