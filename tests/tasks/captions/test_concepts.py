"""The loss by which each stream's steps tell the caption's words by themselves."""

from dataclasses import replace

import torch
from torch.nn.functional import binary_cross_entropy

from tasks.captions.concepts import Concepts
from tasks.captions.evidence import Evidence
from tasks.captions.vocabulary import SIGNS, Vocabulary

WORDS = Vocabulary.of(["a red two and a blue one"], least=1)
TEXTS = ["a red two", "a blue one and a red one", "a red two"]


def shown() -> Evidence:
    random = torch.Generator().manual_seed(0)
    steps = {"rgb": torch.randn(3, 6, 5, generator=random), "audio": torch.randn(3, 9, 4, generator=random)}
    return Evidence(steps, {"rgb": torch.ones(3).bool(), "audio": torch.tensor([True, False, True])})


def test_a_word_is_in_a_clip_unless_every_step_lacks_it():
    torch.manual_seed(0)
    concepts, evidence = Concepts(WORDS, channels={"rgb": 5, "audio": 4}), shown()
    clips = []
    for name, there in evidence.present.items():
        chance = torch.sigmoid(concepts.tell[name](evidence.steps[name]))
        for row in there.nonzero()[:, 0].tolist():
            words = TEXTS[row].split()
            found = 1 - (1 - chance[row]).prod(dim=0)
            true = torch.tensor([float(word in words) for word in WORDS.words])
            cut = slice(len(SIGNS), None)
            clips.append(binary_cross_entropy(found[cut], true[cut], reduction="sum") / true.sum())
    assert len(clips) == 5
    torch.testing.assert_close(concepts.loss(evidence, TEXTS), torch.stack(clips).mean())
    junk = replace(evidence, steps=evidence.steps | {"audio": evidence.steps["audio"].clone()})
    junk.steps["audio"][1] = torch.nan
    torch.testing.assert_close(concepts.loss(junk, TEXTS), concepts.loss(evidence, TEXTS))


def test_words_are_learned_at_the_places_that_show_them_from_what_is_said_of_whole_clips():
    random = torch.Generator().manual_seed(0)
    concepts = Concepts(WORDS, channels={"rgb": 6})
    optimizer = torch.optim.Adam(concepts.parameters(), lr=0.1)
    things = {"red": 0, "blue": 1, "one": 2, "two": 3}
    for _ in range(200):
        steps, texts = torch.zeros(16, 5, 6), []
        for clip in steps:
            colour, digit = ("red", "blue")[torch.randint(2, (), generator=random)], ["one", "two"]
            digit = digit[torch.randint(2, (), generator=random)]
            for word in (colour, digit):
                clip[torch.randint(5, (), generator=random), things[word]] = 1.0
            texts.append(f"a {colour} {digit}")
        loss = concepts.loss(Evidence({"rgb": steps}, {"rgb": torch.ones(16).bool()}), texts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        told = torch.sigmoid(concepts.tell["rgb"](torch.eye(6)))
        nothing = torch.sigmoid(concepts.tell["rgb"](torch.zeros(6)))
    for word, column in things.items():
        number = WORDS.words.index(word)
        assert told[column, number] > 0.9 and nothing[number] < 0.05
        assert told[[other for other in things.values() if other != column], number].max() < 0.3


def test_an_empty_clip_and_a_sure_word_have_a_finite_loss():
    concepts = Concepts(WORDS, channels={"rgb": 2})
    evidence = Evidence({"rgb": torch.full((1, 3, 2), 1e4, requires_grad=True)}, {"rgb": torch.tensor([True])})
    with torch.no_grad():
        concepts.tell["rgb"].weight.fill_(1.0)
    loss = concepts.loss(evidence, ["a red two"])
    loss.backward()
    assert loss.isfinite() and evidence.steps["rgb"].grad.isfinite().all()
    nobody = replace(evidence, present={"rgb": torch.tensor([False])})
    assert concepts.loss(nobody, ["a red two"]).item() == 0
