"""What is minimised."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fusion.heads.head import StreamOutputs
from fusion.model import Output
from fusion.training.loss import answer_sums, count_rows, each_loss, joint_loss
from streams.registry import STREAMS


def a_batch(streams=tuple(STREAMS), rows: int = 7, classes: int = 5) -> tuple[Output, torch.Tensor, dict]:
    torch.manual_seed(0)
    present = {name: torch.rand(rows) < 0.6 for name in streams}
    for mask in present.values():
        mask[3] = False  # a video that has nothing
    logits = {name: torch.randn(rows, classes) for name in streams}
    return (
        Output(torch.randn(rows, classes), StreamOutputs(logits, {}, {}, {})),
        torch.randint(0, classes, (rows,)),
        present,
    )


def part_of(output: Output, rows: slice) -> Output:
    logits = {name: logits[rows] for name, logits in output.streams.logits.items()}
    return Output(output.logits[rows], StreamOutputs(logits, {}, {}, {}))


@pytest.mark.parametrize(("auxiliary", "smoothing"), [(0.5, 0.0), (0.0, 0.0), (1.3, 0.1)])
def test_the_joint_loss_is_the_fused_cross_entropy_and_the_mean_of_the_streams_own(auxiliary, smoothing):
    output, labels, present = a_batch()
    there = torch.stack([*present.values()]).any(dim=0)
    assert not there.all()
    fused = cross_entropy(output.logits[there], labels[there], label_smoothing=smoothing)
    own = [
        cross_entropy(output.streams.logits[name][mask], labels[mask], label_smoothing=smoothing)
        for name, mask in present.items()
    ]
    losses = each_loss(output, labels, present, count_rows(present), label_smoothing=smoothing)
    torch.testing.assert_close(joint_loss(losses, auxiliary=auxiliary), fused + auxiliary * sum(own) / len(own))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(smoothing):
    output, labels, present = a_batch()
    others, share = labels.roll(1), torch.rand(len(labels))
    targets = share[:, None] * one_hot(labels, 5) + (1 - share[:, None]) * one_hot(others, 5)
    counts = count_rows(present)
    found = each_loss(output, targets, present, counts, label_smoothing=smoothing)
    for name, logits in {"": output.logits, **output.streams.logits}.items():
        there = present[name] if name else torch.stack([*present.values()]).any(dim=0)
        own, other = (
            cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing) for classes in (labels, others)
        )
        torch.testing.assert_close(found[name], (share * own + (1 - share) * other)[there].mean())


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 0, 7), (0, 1, 2, 4, 7)])
def test_the_losses_of_the_parts_of_a_batch_add_up_to_the_whole_batchs(cuts):
    output, labels, present = a_batch()
    counts = count_rows(present)
    whole = each_loss(output, labels, present, counts)
    parts = [
        each_loss(part_of(output, rows), labels[rows], {k: m[rows] for k, m in present.items()}, counts)
        for rows in (slice(*pair) for pair in pairwise(cuts))
    ]
    torch.testing.assert_close({name: sum(part[name] for part in parts) for name in whole}, whole)


def test_rows_are_counted_for_each_stream_and_for_any():
    present = {"rgb": torch.tensor([True, False, False]), "audio": torch.tensor([True, True, False])}
    assert count_rows(present) == {"": 2, "rgb": 1, "audio": 2}


def test_a_stream_that_the_whole_batch_lacks_adds_nothing_to_the_loss():
    output, labels, present = a_batch()
    present["flow"][:] = False
    output.streams.logits["flow"].requires_grad_()
    each_loss(output, labels, present, count_rows(present))["flow"].backward()
    assert not output.streams.logits["flow"].grad.any()


def test_a_mixed_clips_answer_is_right_if_it_is_the_larger_share_and_clips_without_a_stream_do_not_count():
    output, labels, present = a_batch()
    there = torch.stack([*present.values()]).any(dim=0)
    others, share = labels.roll(1), torch.tensor([0.9, 0.4, 0.7, 0.8, 0.45, 0.3, 1.0])
    targets = share[:, None] * one_hot(labels, 5) + (1 - share[:, None]) * one_hot(others, 5)
    larger = torch.where(share > 0.5, labels, others)
    answers = torch.where(torch.arange(7) % 2 == 0, larger, (larger + 1) % 5)
    output = output._replace(logits=output.logits + 100 * one_hot(answers, 5))
    mixed = -(targets * output.logits.log_softmax(dim=1)).sum(dim=1)
    found = answer_sums(output, targets, present)
    torch.testing.assert_close(found[0], mixed[there].sum().double(), rtol=1e-5, atol=1e-4)
    assert found[1] == (answers == larger)[there].sum() and not there.all()
