"""How sure each stream is of the right class."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import one_hot

from fusion.training.balance.confidence import ConfidenceMeter, ratios
from fusion.training.loss import count_rows
from fusion.training.ranks import Ranks
from tests.fusion.training.test_loss import a_batch, part_of


@pytest.mark.parametrize("cuts", [(0, 7), (0, 3, 7), (0, 0, 1, 7)])
def test_confidence_is_the_mean_probability_of_the_right_class_where_the_stream_is_there(cuts):
    output, labels, present = a_batch()
    meter, counts = ConfidenceMeter(), count_rows(present)
    for rows in (slice(*pair) for pair in pairwise(cuts)):
        part = {name: mask[rows] for name, mask in present.items()}
        meter.add(part_of(output, rows), one_hot(labels[rows], 5), part, counts)
    found = meter.read(Ranks())
    for name, mask in present.items():
        logits = output.streams.logits[name].double().exp()
        right = [float(logits[row, labels[row]] / logits[row].sum()) for row in range(7) if mask[row]]
        assert float(found[name]) == pytest.approx(sum(right) / len(right), rel=1e-5)


def test_of_a_mixed_clip_each_class_counts_by_its_share():
    output, labels, present = a_batch()
    share = torch.rand(len(labels))
    targets = share[:, None] * one_hot(labels, 5) + (1 - share[:, None]) * one_hot(labels.roll(1), 5)
    meter = ConfidenceMeter()
    meter.add(output, targets, present, count_rows(present))
    found = meter.read(Ranks())
    for name, mask in present.items():
        sure = output.streams.logits[name].softmax(dim=1)
        right = [
            share[row] * sure[row, labels[row]] + (1 - share[row]) * sure[row, labels[row - 1]]
            for row in range(7)
            if mask[row]
        ]
        assert float(found[name]) == pytest.approx(float(sum(right)) / len(right), rel=1e-5)


def test_a_stream_that_nobody_has_is_not_compared():
    output, labels, present = a_batch()
    present["flow"][:] = False
    meter = ConfidenceMeter()
    meter.add(output, one_hot(labels, 5), present, count_rows(present))
    assert set(meter.read(Ranks())) == {"rgb", "audio"}


def test_a_stream_is_compared_with_the_mean_of_the_others():
    values = {name: torch.tensor(value) for name, value in {"a": 0.6, "b": 0.2, "c": 0.4}.items()}
    found = {name: float(ratio) for name, ratio in ratios(values).items()}
    assert found == pytest.approx({"a": 2.0, "b": 0.4, "c": 1.0})
    two = ratios({name: values[name] for name in ("a", "b")})
    assert float(two["a"]) == pytest.approx(3.0) and float(two["b"]) == pytest.approx(1 / 3)
    assert ratios({"a": values["a"]}) == {} == ratios({})
