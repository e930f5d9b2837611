"""The words that a decoder knows."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
PAD, START, END, UNKNOWN = range(4)
SIGNS = ("<pad>", "<start>", "<end>", "<unknown>")


def words_of(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words by their numbers; the first four are signs."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], *, least: int) -> "Vocabulary":
        """The words that occur `least` times or more, the most frequent first."""
        counts = Counter(word for text in texts for word in words_of(text))
        known = sorted(
            (word for word, count in counts.items() if count >= least), key=lambda word: (-counts[word], word)
        )
        return cls((*SIGNS, *known))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, text: str) -> list[int]:
        """A sentence between its signs."""
        return [START, *(self._numbers.get(word, UNKNOWN) for word in words_of(text)), END]

    def decode(self, numbers: Sequence[int]) -> str:
        """The words up to the sign of the end, without signs."""
        numbers = list(numbers)
        end = numbers.index(END) if END in numbers else len(numbers)
        return " ".join(self.words[number] for number in numbers[:end] if number >= len(SIGNS))
