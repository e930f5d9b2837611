"""Scores of captions."""

import importlib.util
import random

import pytest
from torchmetrics.text import BLEUScore

from tasks.captions.scores import bleu, cider_d, longest_common, rouge_l, score_captions
from tests.support.data import SHARED

SCORER = SHARED / "tasks" / "captioning" / "score_captioning.py"


def sentences(seed: int, *, videos: int = 12) -> tuple[list[str], list[list[str]]]:
    """Captions of few words, so that n-grams are shared, and references of other lengths."""
    draw = random.Random(seed)
    words = ["a", "red", "two", "moves", "left", "and", "the", "green", "dog", "runs"]

    def one() -> str:
        return " ".join(draw.choices(words, k=draw.randint(3, 14)))

    return [one() for _ in range(videos)], [[one() for _ in range(draw.randint(1, 5))] for _ in range(videos)]


@pytest.mark.skipif(not SCORER.exists(), reason="the scorer that equals pycocoevalcap is not on this machine")
def test_scores_equal_those_of_pycocoevalcap():
    spec = importlib.util.spec_from_file_location("score_captioning", SCORER)
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    for seed in range(5):
        captions, references = sentences(seed)
        captions[0], captions[1] = "", references[1][0]
        said, true = [text.split() for text in captions], [[text.split() for text in its] for its in references]
        expected = {
            "CIDEr-D": oracle.cider(said, true),
            "BLEU-4": oracle.bleu4(said, true),
            "ROUGE-L": oracle.rouge_l(said, true),
        }
        assert score_captions(captions, references) == pytest.approx(expected, abs=1e-9)


def test_bleu_is_torchmetrics_and_what_is_right_scores_most():
    captions, references = sentences(7)
    said, true = [text.split() for text in captions], [[text.split() for text in its] for its in references]
    assert bleu(said, true) == pytest.approx(BLEUScore(n_gram=4)(captions, references).item(), abs=1e-6)
    right = [its[0] for its in true]
    assert bleu(right, true) == rouge_l(right, true) == 1.0
    long = [its[0] * 2 for its in true]  # all have four words
    assert cider_d(long, [[one] for one in long]) == pytest.approx(10.0)
    assert longest_common("abcbdab", "bdcaba") == 4  # Cormen et al., chapter 15.4
