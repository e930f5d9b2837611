"""Gradient-Blending."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fusion.training.balance.blending import Blending, blend
from fusion.training.loss import count_rows, each_loss
from fusion.training.ranks import Ranks
from tests.fusion.training.test_loss import a_batch
from tests.test_train import TINY, rows_of, settings_of
from train import train


def table(*losses: tuple[float, float]) -> torch.Tensor:
    """Of each loss its value on training and on validation → (2, N)"""
    return torch.tensor(losses, dtype=torch.float64).T


def test_the_weights_are_the_gain_by_the_square_of_the_overfitting():
    """G = 0.5, 0.25, 0.2 and O = 0.5, 0.25, 0.8: weights as 2 to 4 to 0.3125."""
    start = table((2.0, 2.0), (2.0, 2.0), (2.0, 2.1))
    end = table((1.0, 1.5), (1.5, 1.75), (1.0, 1.9))
    assert blend(start, end).tolist() == pytest.approx([2 / 6.3125, 4 / 6.3125, 0.3125 / 6.3125])


def test_losses_that_do_alike_weigh_alike():
    start, end = table(*[(2.0, 2.2)] * 4), table(*[(1.0, 1.7)] * 4)
    assert blend(start, end).tolist() == pytest.approx([0.25] * 4)


def test_a_loss_that_gains_nothing_keeps_a_little_and_one_that_does_not_overfit_is_not_everything():
    weights = blend(table((2.0, 2.0), (2.0, 2.0), (2.0, 2.0)), table((1.0, 2.4), (1.5, 1.5), (1.5, 1.9)))
    assert 0 < weights[0] < 1e-4
    assert weights.isfinite().all() and float(weights.sum()) == pytest.approx(1)


def test_a_loss_without_validation_has_the_mean_weight():
    start, end = table((2.0, 2.0), (2.0, 2.0), (2.0, 2.0)), table((1.0, 1.5), (1.0, 1.5), (1.0, float("nan")))
    assert blend(start, end).tolist() == pytest.approx([1 / 3] * 3)


def an_epoch(method: Blending, training: list, validation: list) -> dict[str, float]:
    model = torch.nn.Module()
    for output, labels, present in training:
        counts = count_rows(present)
        method.observe(output, one_hot(labels, 5).float(), present, counts)
        method.modulate(model, counts, Ranks(), seed=0)
    for output, labels, present in validation:
        method.watch(output, labels, present)
    return method.end_epoch(Ranks())


def scaled(factor: float) -> tuple:
    output, labels, present = a_batch()
    logits = {name: value * factor for name, value in output.streams.logits.items()}
    return (
        output._replace(logits=output.logits * factor, streams=output.streams._replace(logits=logits)),
        labels,
        present,
    )


def mean_losses(given: list) -> torch.Tensor:
    found = []
    for name in ("", *given[0][2]):
        logits, labels = [], []
        for output, right, present in given:
            there = present[name] if name else torch.stack([*present.values()]).any(dim=0)
            logits.append((output.streams.logits[name] if name else output.logits)[there])
            labels.append(right[there])
        found.append(float(cross_entropy(torch.cat(logits), torch.cat(labels))))
    return torch.tensor(found, dtype=torch.float64)


def test_losses_are_measured_over_the_rows_that_have_a_stream_and_weigh_from_the_second_measurement_on():
    present = scaled(1.0)[2]
    method = Blending(streams=tuple(present), auxiliary=0.5, epochs=9)
    assert method.every == 2
    epochs = [
        ([scaled(0.1), scaled(0.2)], [scaled(0.3)]),
        ([scaled(0.9)], [scaled(0.9)]),
        ([scaled(0.7), scaled(0.5)], [scaled(0.2), scaled(0.1)]),
    ]
    assert set(an_epoch(method, *epochs[0]).values()) == {0.25}
    assert set(an_epoch(method, *epochs[1]).values()) == {0.25}
    weights = an_epoch(method, *epochs[2])
    start, end = (torch.stack([mean_losses(part) for part in epochs[number]]) for number in (0, 2))
    assert list(weights.values()) == pytest.approx(blend(start, end).tolist(), rel=1e-5)
    assert list(weights) == ["weight_fused", "weight_rgb", "weight_flow", "weight_audio"]


def test_the_loss_is_the_weighted_sum():
    output, labels, present = a_batch()
    method = Blending(streams=tuple(present), auxiliary=0.5, epochs=9)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1])
    method.weights.copy_(weights)
    expected = float(weights @ torch.stack(list(each_loss(output, labels, present, count_rows(present)).values())))
    output.logits.requires_grad_()
    found = method.backward(each_loss(output, labels, present, count_rows(present)), None)
    assert float(found) == pytest.approx(expected)
    assert output.logits.grad.any()


@pytest.mark.slow
def test_a_runs_weights_are_logged_and_follow_its_losses(toy, tmp_path):
    rows = rows_of(train(settings_of(toy, tmp_path / "run", recipe=replace(TINY, balance="blending", epochs=3))))
    names = [name for name in rows[0] if name.startswith("weight_")]
    assert [rows[0][name] for name in names] == [0.25] * 4
    for row in rows[1:]:
        assert sum(row[name] for name in names) == pytest.approx(1)
        assert len({round(row[name], 6) for name in names}) > 1
