"""What a student's towers learn of the teacher's, against scikit-learn."""

import pytest
import torch
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.hints import Hints
from streams.registry import STREAMS

SMALL = {"classes": 2, "parameters": {"mel_bands": 64}}
PRESENT = {"rgb": [1, 1, 1, 1, 0, 1], "flow": [1, 1, 0, 1, 1, 1], "audio": [1, 1, 1, 0, 1, 1]}


@pytest.fixture
def made():
    """The student sees and hears; the teacher has flow too. Flow has as many steps as RGB, sound has others."""
    torch.manual_seed(0)
    settings = ModelSettings(width=2, feature=4)
    student, teacher = (build_model(settings, streams=names, **SMALL) for names in (("rgb", "audio"), tuple(STREAMS)))
    hints = Hints(student, teacher, weight=3.0)
    steps = {"rgb": 2, "flow": 2, "audio": 5}
    present = {name: torch.tensor(mask, dtype=torch.bool) for name, mask in PRESENT.items()}
    towers = {
        name: (torch.randn(6, steps[name], encoder.tower.features) * 3 + 1) * present[name][:, None, None]
        for name, encoder in teacher.encoders.items()
    }
    return hints, student, towers, present


def test_the_loss_is_the_squared_error_of_the_standardised_channels_where_both_are_there(made):
    hints, _, towers, present = made
    counts = {name: float(present[name].sum()) for name in ("rgb", "audio")}
    ours = {name: towers[name].clone().requires_grad_() for name in ("rgb", "audio")}
    found = hints(ours, towers, present, counts)
    expected = 0.0
    for own in ("rgb", "audio"):
        both = present[own] & present["flow"]
        one, other = towers[own][both], towers["flow"][both]
        if own == "audio":
            one, other = one.mean(1, keepdim=True), other.mean(1, keepdim=True)
        said = hints.layers[own]["flow"](one).detach().flatten(0, 1)
        wanted = StandardScaler().fit_transform(other.flatten(0, 1))
        expected += 3.0 * mean_squared_error(wanted, said) * int(both.sum()) / counts[own]
    assert found.item() == pytest.approx(expected, rel=1e-3)
    found.backward()
    for own, part in ours.items():
        learning = part.grad.flatten(1).norm(dim=1) > 0
        assert learning.tolist() == (present[own] & present["flow"]).tolist()
    assert {name: set(layers) for name, layers in hints.layers.items()} == {"rgb": {"flow"}, "audio": {"flow"}}


def test_a_frozen_tower_and_a_teacher_without_other_streams_give_no_hints(made):
    _, student, _, _ = made
    teacher = build_model(ModelSettings(width=2, feature=4), streams=("rgb", "flow"), **SMALL)
    student.encoders["audio"].freeze()
    assert set(Hints(student, teacher, weight=1.0).layers) == {"rgb"}
    same = Hints(student, student, weight=1.0)
    assert not any(len(layers) for layers in same.layers.values())


def test_its_line_says_what_learns_from_what(made):
    assert made[0].line() == "  towers of rgb+audio learn to predict its flow"
