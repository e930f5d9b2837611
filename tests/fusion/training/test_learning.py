"""What the fusion heads can learn, without any video."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fusion.heads import HEADS
from fusion.heads.head import StreamOutputs
from fusion.model import drop_streams

STEPS = {"a": 4, "b": 9}
CHANNELS = {"a": 6, "b": 5}
D = 8


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return HEADS[name](channels=CHANNELS, feature=D, classes=4, dropout=0.1)


LEARNING = [name for name in HEADS if any(True for _ in make(name).parameters())]


def draw(rows: int) -> tuple[StreamOutputs, dict[str, torch.Tensor], torch.Tensor]:
    """Each stream says its bit, both in the same way; (rows, 2) bits. Their opinions are noise."""
    bits = torch.randint(0, 2, (rows, 2))

    def say(name: str, *shape: int) -> torch.Tensor:
        noise = 0.15 * torch.randn(rows, *shape)
        bit = bits[:, list(STEPS).index(name)] - 0.5
        noise[..., 0] += bit[(..., *[None] * (len(shape) - 1))]
        return noise

    encoding = StreamOutputs(
        {name: torch.randn(rows, 4) for name in STEPS},
        {name: say(name, D) for name in STEPS},
        {name: say(name, steps, D) for name, steps in STEPS.items()},
        {name: say(name, steps, CHANNELS[name]) for name, steps in STEPS.items()},
    )
    return encoding, {name: torch.ones(rows, dtype=torch.bool) for name in STEPS}, bits


def learn(head: nn.Module, classes: torch.Tensor) -> None:
    """classes: (2, 2), the class of each pair of bits."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(400):
        encoding, present, bits = draw(64)
        loss = cross_entropy(head(encoding, drop_streams(present, 0.25)), classes[bits[:, 0], bits[:, 1]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_a_head_learns_the_pair_of_two_streams_bits_and_without_one_of_them_the_others_bit(name):
    head, classes = make(name), torch.tensor([[0, 1], [2, 3]])
    learn(head, classes)
    encoding, present, bits = draw(2000)
    head.eval()
    with torch.no_grad():
        assert (head(encoding, present).argmax(dim=1) == classes[bits[:, 0], bits[:, 1]]).double().mean() > 0.95
        for at, lost in enumerate(STEPS):
            answer = head(encoding, present | {lost: torch.zeros(2000, dtype=torch.bool)}).argmax(dim=1)
            known = torch.stack([answer // 2, answer % 2], dim=1)[:, 1 - at]
            assert (known == bits[:, 1 - at]).double().mean() > 0.95
            assert (answer == classes[bits[:, 0], bits[:, 1]]).double().mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_a_head_learns_whether_two_streams_agree_which_no_sum_of_their_opinions_can_say(name):
    head, classes = make(name), torch.tensor([[1, 0], [0, 1]])
    learn(head, classes)
    encoding, present, bits = draw(2000)
    with torch.no_grad():
        assert (head.eval()(encoding, present).argmax(dim=1) == classes[bits[:, 0], bits[:, 1]]).double().mean() > 0.95
