"""The decoder, its search and its sound."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from tasks.captions.augment import stretch_sound
from tasks.captions.decoder import Decoder
from tasks.captions.evidence import Evidence
from tasks.captions.search import beam_search
from tasks.captions.vocabulary import END, START, Vocabulary

CHANNELS = {"rgb": 5, "flow": 3, "audio": 4}
WORDS = Vocabulary.of(["A red two moves left, while a voice says nine.", "a dog isn't red"], least=1)


def decoder(kind: str = "lstm") -> Decoder:
    torch.manual_seed(0)
    shape = {"width": 16, "layers": 2, "dropout": 0.5, "word_dropout": 0.5}
    return Decoder(WORDS, channels=CHANNELS, together=["rgb", "flow"], kind=kind, **shape).eval()


def shown(seed: int, *, clips: int = 3) -> Evidence:
    random = torch.Generator().manual_seed(seed)
    steps = {"rgb": 6, "flow": 6, "audio": 9}
    values = {name: torch.randn(clips, steps[name], size, generator=random) for name, size in CHANNELS.items()}
    return Evidence(values, {name: torch.ones(clips, dtype=torch.bool) for name in CHANNELS})


def test_words_go_through_the_vocabulary_unchanged():
    numbers = WORDS.encode("A red two, isn't left!")
    assert (numbers[0], numbers[-1]) == (START, END)
    assert WORDS.decode(numbers[1:]) == "a red two isn't left"
    assert WORDS.decode(WORDS.encode("a purple two")[1:]) == "a two"
    assert Vocabulary.of(["a b", "a"], least=2).words[4:] == ("a",)


@torch.no_grad()
def test_a_word_depends_on_those_before_it_alone():
    words = torch.tensor([WORDS.encode("a red two moves left")] * 3)
    changed = words.clone()
    changed[:, 4:] = words[:, 4:].flip(1)
    for kind in ("lstm", "transformer"):
        one, other = (decoder(kind)(part, shown(0)) for part in (words, changed))
        torch.testing.assert_close(one[:, :4], other[:, :4])
        assert not torch.allclose(one[:, 4:], other[:, 4:])


@torch.no_grad()
def test_what_a_stream_adds_to_a_word_does_not_depend_on_the_streams_that_are_attended_apart():
    net, words = decoder(), torch.tensor([WORDS.encode("a red two moves left")] * 3)
    one, other = shown(0), shown(1)
    other = replace(other, steps=other.steps | {"audio": one.steps["audio"]})
    added = [net(words, part) - net(words, part.only(["rgb", "flow"])) for part in (one, other)]
    torch.testing.assert_close(*added)
    assert added[0].abs().max() > 1e-3
    junk = replace(one.only(["rgb"]), steps=one.steps | {"flow": other.steps["flow"], "audio": other.steps["audio"]})
    torch.testing.assert_close(net(words, junk), net(words, one.only(["rgb"])))


@torch.no_grad()
def test_pictures_and_flow_are_attended_at_the_same_places():
    net, words, one = decoder(), torch.tensor([WORDS.encode("a red two")] * 3), shown(0)
    moved = {name: steps.flip(1) if name != "audio" else steps for name, steps in one.steps.items()}
    torch.testing.assert_close(net(words, replace(one, steps=moved)), net(words, one))
    apart = one.steps | {"flow": one.steps["flow"].flip(1)}
    assert not torch.allclose(net(words, replace(one, steps=apart)), net(words, one))


@torch.no_grad()
@pytest.mark.parametrize("length", [0.0, 0.7, 1.0])
def test_a_wide_search_finds_the_best_of_all_sentences_and_a_narrow_one_the_greedy(length):
    longest, words = 4, 4  # the last number is the end
    table = torch.randn(2, *[words] * longest, words, generator=torch.Generator().manual_seed(3)).log_softmax(-1)

    def log_probabilities(so_far):
        clips, beams, count = so_far.shape
        found = torch.empty(clips, beams, words)
        for clip, beam in product(range(clips), range(beams)):
            place = [*so_far[clip, beam].tolist(), *[0] * (longest - count)]
            found[clip, beam] = table[(clip, *place)]
        return found

    def best_of_all(clip):
        best = {}
        for sentence in product(range(words), repeat=longest):
            end = sentence.index(3) + 1 if 3 in sentence else longest
            before, total = [0], 0.0
            for word in sentence[:end]:
                total += table[(clip, *before, *[0] * (longest - len(before)), word)].item()
                before.append(word)
            best[sentence[:end]] = total
        return max(best.items(), key=lambda item: item[1] / len(item[0]) ** length)

    settings = {"clips": 2, "start": 0, "end": 3, "longest": longest, "length": length}
    for clip, (numbers, score) in enumerate(beam_search(log_probabilities, beam=words**longest, **settings)):
        sentence, expected = best_of_all(clip)
        assert tuple(numbers[: len(sentence)]) == sentence and score == pytest.approx(expected, abs=1e-5)
    greedy = [0]
    while len(greedy) <= longest and greedy[-1] != 3:
        greedy.append(int(log_probabilities(torch.tensor([[greedy]] * 2))[0, 0].argmax()))
    assert beam_search(log_probabilities, beam=1, **settings)[0][0][: len(greedy) - 1] == greedy[1:]


def test_stretched_sound_is_the_same_sound_at_another_pitch_and_speed():
    torch.manual_seed(0)
    mel = torch.full((8, 64, 200), -1.0)
    mel[:, 30:34, 90:110] = 1.0
    torch.testing.assert_close(stretch_sound(mel, 0.0), mel, atol=1e-4, rtol=1e-4)
    loud = stretch_sound(mel, 0.2) > 0
    bands, time = loud.any(dim=2).sum(dim=1), loud.any(dim=1).sum(dim=1)
    assert ((bands >= 3) & (bands <= 6)).all() and ((time >= 16) & (time <= 25)).all()
    firsts = {(int(one.any(dim=1).int().argmax()), int(one.any(dim=0).int().argmax())) for one in loud}
    assert len(firsts) > 4


def test_a_word_that_costs_its_looks_is_told_by_the_stream_that_it_needs():
    """Pictures tell a digit, not always, and flow a move; in training no digit goes with the move of its number."""
    random = torch.Generator().manual_seed(0)
    digits, moves = ("one", "two", "three"), ("left", "right", "up")
    vocabulary = Vocabulary.of([f"a {digit} moves {move}" for digit, move in product(digits, moves)], least=1)
    shape = {"width": 16, "layers": 1, "dropout": 0.0, "word_dropout": 0.2}
    torch.manual_seed(0)
    net = Decoder(vocabulary, channels={"rgb": 3, "flow": 3}, together=[], kind="lstm", shut=True, **shape)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)

    def clips(digit, move):
        seen = torch.where(torch.rand(len(digit), generator=random) < 0.9, digit, torch.randint(3, (len(digit),)))
        steps = {"rgb": torch.eye(3)[seen, None], "flow": torch.eye(3)[move, None]}
        texts = [f"a {digits[d]} moves {moves[m]}" for d, m in zip(digit, move, strict=True)]
        return Evidence(steps, {name: torch.ones(len(digit), dtype=torch.bool) for name in steps}), texts, seen

    for step in range(300):
        digit = torch.randint(3, (64,), generator=random)
        move = (digit + torch.randint(1, 3, (64,), generator=random)) % 3
        shown, texts, _ = clips(digit, move)
        loss = net.loss(shown, texts, price=0.3 * (step >= 100))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    digit, move = torch.arange(3).repeat(20), torch.arange(3).repeat(20)
    shown, _, seen = clips(digit, move)
    found = [sentence.text.split() for sentence in net.eval().captions(shown, beam=1)]
    assert [words[1] for words in found] == [digits[number] for number in seen]
    assert [words[3] for words in found] == [moves[number] for number in move]
