"""The fusion heads."""

import pytest
import torch

from fusion.heads import HEADS

STREAMS = ("one", "two", "three")  # heads know nothing of the streams' names
B, D, K = 6, 8, 5
each_head = pytest.mark.parametrize("name", HEADS)


def make(name: str, streams=STREAMS):
    torch.manual_seed(0)
    return HEADS[name](streams=streams, feature=D, classes=K, dropout=0.2).eval()


def inputs(streams=STREAMS, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(B, D, generator=generator) for name in streams}
    logits = {name: torch.randn(B, K, generator=generator) for name in streams}
    present = {name: torch.rand(B, generator=generator) < 0.6 for name in streams}
    return features, logits, present


@each_head
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_streams_gives_one_answer_a_clip(name, count):
    streams = STREAMS[:count]
    assert make(name, streams)(*inputs(streams)).shape == (B, K)


@each_head
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_what_absent_streams_hold_does_not_matter(name, rubbish):
    head = make(name)
    features, logits, present = inputs()
    expected = head(features, logits, present)
    assert expected.isfinite().all()
    for values in (features, logits):
        for stream, mask in present.items():
            values[stream] = values[stream].masked_fill(~mask[:, None], rubbish)
    assert torch.equal(head(features, logits, present), expected)


@each_head
def test_no_gradient_flows_into_what_absent_streams_hold(name):
    head = make(name)
    features, logits, present = inputs()
    held = [values.requires_grad_() for part in (features, logits) for values in part.values()]
    head(features, logits, present).sum().backward()
    for value, mask in zip(held, [*present.values()] * 2, strict=True):
        if value.grad is not None:
            assert not value.grad[~mask].any()
    assert any(value.grad is not None and value.grad.any() for value in held)


@each_head
def test_a_clip_that_has_nothing_gets_finite_logits_and_disturbs_no_other(name):
    head = make(name)
    features, logits, present = inputs()
    expected = head(features, logits, present)
    emptied = {stream: mask.index_fill(0, torch.tensor([2]), False) for stream, mask in present.items()}
    answer = head(features, logits, emptied)
    assert answer.isfinite().all()
    others = [row for row in range(B) if row != 2]
    assert torch.equal(answer[others], expected[others])


@each_head
def test_each_present_stream_has_a_say(name):
    head = make(name)
    features, logits, _ = inputs()
    present = {stream: torch.ones(B, dtype=torch.bool) for stream in STREAMS}
    expected = head(features, logits, present)
    for stream in STREAMS:
        without = head(features, logits, present | {stream: torch.zeros(B, dtype=torch.bool)})
        assert not torch.allclose(without, expected)


@each_head
def test_the_order_in_which_streams_are_given_does_not_matter(name):
    head = make(name)
    given = inputs()
    turned = [dict(reversed(part.items())) for part in given]
    assert torch.equal(head(*given), head(*turned))


def test_the_mean_head_is_the_mean_of_the_present_streams_logits():
    features, logits, present = inputs()
    answer = make("mean")(features, logits, present)
    for row in range(B):
        there = [logits[stream][row] for stream in STREAMS if present[stream][row]]
        expected = torch.stack(there).mean(dim=0) if there else torch.zeros(K)
        torch.testing.assert_close(answer[row], expected)


def test_the_mean_head_learns_nothing():
    assert not list(make("mean").parameters())


def test_the_concat_head_tells_an_absent_stream_from_a_feature_of_zeros():
    head = make("concat")
    features, logits, _ = inputs()
    features["two"] = torch.zeros(B, D)
    present = {stream: torch.ones(B, dtype=torch.bool) for stream in STREAMS}
    absent = present | {"two": torch.zeros(B, dtype=torch.bool)}
    assert not torch.allclose(head(features, logits, present), head(features, logits, absent))
