"""What every fusion head promises."""

import pytest
import torch

from fusion.heads import HEADS
from fusion.heads.head import StreamOutputs
from tests.support.cases import case
from tests.support.encodings import STREAMS, B, K, change, everywhere, inputs, make

each_head = pytest.mark.parametrize("name", HEADS)


def masked_out(mask: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """mask: (B,) → (B, 1, ...), as many axes as the part has."""
    return mask.logical_not()[(..., *[None] * (part.ndim - 1))]


@each_head
def test_any_number_of_streams_of_any_size_gives_one_answer_a_clip(name):
    for count in (1, 2, 3):
        with case(f"{count} streams"):
            streams = STREAMS[:count]
            answer = make(name, streams)(*inputs(streams))
            assert answer.shape == (B, K) and answer.isfinite().all()
    for feature in (1, 2, 6, 7):
        with case(f"{feature} features"):
            head = HEADS[name](channels={"one": 3}, feature=feature, classes=2, dropout=0.0)
            parts = ((B, 2), (B, feature), (B, 5, feature), (B, 5, 3))
            encoding = StreamOutputs(*({"one": torch.randn(shape)} for shape in parts))
            assert head(encoding, {"one": torch.ones(B, dtype=torch.bool)}).shape == (B, 2)


@each_head
def test_what_absent_streams_hold_changes_no_bit(name):
    head = make(name)
    encoding, present = inputs()

    def ask(given):
        torch.manual_seed(3)  # dropout's
        return head(given, present)

    for training in (False, True):
        head.train(training)
        expected = ask(encoding)
        assert expected.isfinite().all()
        for rubbish in (float("nan"), float("inf"), 1e30):

            def spoil(stream, part, rubbish=rubbish):
                return part.masked_fill(masked_out(present[stream], part), rubbish)

            with case((rubbish, "training" if training else "in use")):
                assert torch.equal(ask(change(encoding, spoil)), expected)


@each_head
def test_a_hidden_stream_is_as_an_absent_one_that_was_never_encoded(name):
    """One that a whole batch lacks has a single time step, of zeros."""
    head = make(name)
    encoding, present = inputs()
    for hidden in STREAMS:
        use = present | {hidden: torch.zeros(B, dtype=torch.bool)}

        def drop(stream, part, hidden=hidden):
            return torch.zeros_like(part[:, :1] if part.ndim == 3 else part) if stream == hidden else part

        found, expected = head(encoding, use), head(change(encoding, drop), use)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@each_head
def test_no_gradient_flows_into_what_absent_streams_hold_and_some_into_what_present_ones_do(name):
    head = make(name).train()
    encoding, present = inputs()
    spoilt = change(encoding, lambda stream, part: part.masked_fill(masked_out(present[stream], part), float("nan")))
    leaves = change(spoilt, lambda stream, part: part.requires_grad_())
    head(leaves, present).square().sum().backward()
    for stream, mask in present.items():
        gradients = [parts[stream].grad for parts in leaves if parts[stream].grad is not None]
        assert gradients and all(not gradient[~mask].any() for gradient in gradients)
        assert any(all(gradient[row].any() for row in mask.nonzero()[:, 0]) for gradient in gradients)
    for parameter in head.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@each_head
def test_a_stream_that_all_rows_lack_leaves_its_own_weights_without_gradient(name):
    head = make(name).train()
    encoding, present = inputs()
    leaves = change(encoding, lambda stream, part: part.requires_grad_())
    head(leaves, present | {"two": torch.zeros(B, dtype=torch.bool)}).square().sum().backward()
    own = [parameter for key, parameter in head.named_parameters() if "two" in key.split(".")]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in own)
    if own:
        others = [parameter for key, parameter in head.named_parameters() if "one" in key.split(".")]
        assert all(parameter.grad.any() for parameter in others)


@each_head
def test_a_clip_that_has_nothing_gets_finite_logits_and_disturbs_no_other(name):
    head = make(name)
    encoding, present = inputs()
    expected = head(encoding, present)
    emptied = {stream: mask.index_fill(0, torch.tensor([2]), False) for stream, mask in present.items()}
    answer = head(encoding, emptied)
    assert answer.isfinite().all()
    others = [row for row in range(B) if row != 2]
    assert torch.equal(answer[others], expected[others])


@each_head
def test_a_batch_in_which_nobody_has_anything_gives_finite_logits_and_gradients(name):
    head = make(name).train()
    encoding, present = inputs()
    leaves = change(encoding, lambda stream, part: part.requires_grad_())
    answer = head(leaves, {stream: torch.zeros_like(mask) for stream, mask in present.items()})
    assert answer.isfinite().all()
    answer.sum().backward()
    assert not any(part.grad is not None and part.grad.any() for parts in leaves for part in parts.values())
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


@each_head
def test_a_process_without_a_row_takes_part_in_the_backward_pass(name):
    head = make(name).train()
    encoding, present = inputs(rows=0)
    answer = head(change(encoding, lambda stream, part: part.requires_grad_()), present)
    assert answer.shape == (0, K)
    answer.sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in head.parameters())


@each_head
def test_a_row_is_answered_as_if_it_were_alone_and_in_any_order_of_rows_and_streams(name):
    head = make(name)
    encoding, present = inputs()
    together = head(encoding, present)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    turned = head(
        change(encoding, lambda stream, part: part[order]), {stream: mask[order] for stream, mask in present.items()}
    )
    torch.testing.assert_close(turned, together[order], rtol=1e-5, atol=1e-6)
    reverse = type(encoding)(*(dict(reversed(parts.items())) for parts in encoding))
    assert torch.equal(head(reverse, dict(reversed(present.items()))), together)
    for row in range(B):
        here = slice(row, row + 1)
        one = change(encoding, lambda stream, part, here=here: part[here])
        alone = head(one, {stream: mask[here] for stream, mask in present.items()})
        torch.testing.assert_close(alone, together[here], rtol=1e-5, atol=1e-6)


@each_head
def test_each_present_stream_has_a_say(name):
    head = make(name)
    encoding, _ = inputs()
    expected = head(encoding, everywhere())
    for stream in STREAMS:
        without = head(encoding, everywhere() | {stream: torch.zeros(B, dtype=torch.bool)})
        assert all(not torch.allclose(one, other) for one, other in zip(without, expected, strict=True))


@each_head
def test_mixed_precision_gives_about_the_same_and_gradients(name):
    head = make(name, dropout=0.0).train()
    encoding, present = inputs(rows=64)
    encoding = change(encoding, lambda stream, part: part / 4)  # about what LSTMs say
    expected = head(encoding, present)
    # as after autocast, a stream that the batch has is in bfloat16, one that it lacks in float32
    halves = change(encoding, lambda stream, part: part if stream == "one" else part.bfloat16())
    try:
        with torch.autocast("cpu", torch.bfloat16):
            answer = head(change(halves, lambda stream, part: part.requires_grad_()), present)
    except RuntimeError as error:
        if "LSTM forward propagation primitive" not in str(error):
            raise
        pytest.skip("oneDNN has no LSTM in bfloat16 for this CPU")
    assert answer.isfinite().all()
    torch.testing.assert_close(answer.float(), expected, rtol=0.05, atol=0.05)
    answer.float().square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


@each_head
def test_a_head_is_saved_and_loaded_whole(name):
    head, other = make(name), make(name)
    with torch.no_grad():
        for tensor in [*head.parameters(), *head.buffers()]:
            tensor.uniform_(0.5, 1.5)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(*inputs()), head(*inputs()))
