"""The streams' weights and a temperature, fitted on validation answers."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from fusion import fitting
from fusion.fitting import fit_head, fit_weights
from fusion.heads import HEADS
from fusion.heads.mean import weighted_mean
from fusion.model import ModelSettings, build_model
from fusion.predict import answer, prepare
from streams import STREAMS, subset_name
from streams.batch import ClipDataset, ViewBatches, make_loader
from streams.clip import ClipSettings
from tests.stores import Spec, make_store, three_bit

NAMES = ("one", "two", "three")
CPU = torch.device("cpu")


def synthetic(weights: list[float], temperature: float, *, videos: int = 40_000, share: float = 0.8, seed: int = 0):
    """Logits of three streams, and labels drawn from the softmax of their weighted mean at that temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = {name: 3 * torch.randn(videos, 6, generator=generator) for name in NAMES}
    present = {name: torch.rand(videos, generator=generator) < share for name in NAMES}
    mean = weighted_mean(logits, present, dict(zip(NAMES, torch.tensor(weights), strict=True)))
    labels = torch.multinomial((mean / temperature).softmax(dim=1), 1, generator=generator)[:, 0]
    return logits, present, labels


def loss_of(weights, temperature, logits, present, labels) -> float:
    there = torch.stack([*present.values()]).any(dim=0)
    weights = {name: torch.tensor(weight, dtype=torch.float64) for name, weight in weights.items()}
    mean = weighted_mean({name: part.double() for name, part in logits.items()}, present, weights)
    return cross_entropy((mean / temperature)[there], labels[there]).item()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.5, 1.2, 0.3], [0.2, 0.4, 2.4]])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_fit_recovers_the_weights_and_the_temperature_that_answers_were_made_with(weights, temperature):
    found, degree = fit_weights(*synthetic(weights, temperature))
    assert list(found.values()) == pytest.approx(weights, abs=0.06) and list(found) == list(NAMES)
    assert sum(found.values()) == pytest.approx(3)
    assert degree == pytest.approx(temperature, rel=0.04)


def test_a_stream_of_noise_gets_next_to_no_weight():
    logits, present, labels = synthetic([1.5, 1.5, 0.0001], 1.0, share=1.0, videos=4000)
    found, _ = fit_weights(logits, present, labels)
    assert found["three"] < 0.1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("videos", [1, 3, 20, 200])
def test_the_fit_is_never_worse_than_the_mean_on_what_it_was_fitted_on(seed, videos):
    logits, present, labels = synthetic([1.5, 1.2, 0.3], 0.2 + seed / 4, videos=videos, share=0.6, seed=seed)
    if not any(mask.any() for mask in present.values()):
        pytest.skip("no video has anything")
    fitted = loss_of(*fit_weights(logits, present, labels), logits, present, labels)
    assert fitted <= loss_of(dict.fromkeys(NAMES, 1.0), 1.0, logits, present, labels) + 1e-12


def test_answers_that_are_all_right_or_all_wrong_give_finite_weights():
    labels = torch.arange(20) % 4
    right = 30 * torch.nn.functional.one_hot(labels, 4).float()
    for logits in ({"one": right, "two": right}, {"one": -right, "two": -right}, {"one": right, "two": -right}):
        weights, temperature = fit_weights(logits, {name: torch.ones(20, dtype=torch.bool) for name in logits}, labels)
        assert all(0 < weight < 2.001 for weight in weights.values()) and 0 < temperature < 1e6


@pytest.mark.parametrize("videos", [0, 5])
def test_without_an_answer_the_weights_stay_equal(videos):
    present = {name: torch.zeros(videos, dtype=torch.bool) for name in NAMES}
    logits = {name: torch.full((videos, 4), torch.nan) for name in NAMES}
    labels = torch.zeros(videos, dtype=torch.int64)
    assert fit_weights(logits, present, labels) == (dict.fromkeys(NAMES, 1.0), 1.0)


def test_what_absent_streams_hold_and_videos_that_have_nothing_do_not_count():
    logits, present, labels = synthetic([1.5, 1.2, 0.3], 0.7, videos=300, share=0.5)
    there = torch.stack([*present.values()]).any(dim=0)
    assert not there.all()
    spoilt = {name: part.masked_fill(~present[name][:, None], torch.nan) for name, part in logits.items()}
    few = ({name: part[there] for name, part in given.items()} for given in (logits, present))
    expected = fit_weights(logits, present, labels)
    assert fit_weights(spoilt, present, labels) == expected
    assert fit_weights(*few, labels[there]) == expected


CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(22) + lacking)


def a_model(toy, head: str):
    torch.manual_seed(0)
    settings = ModelSettings(width=2, feature=8, head=head)
    model = build_model(settings, streams=tuple(STREAMS), classes=8, parameters=toy.parameters)
    for layer in model.auxiliary.values():
        torch.nn.init.normal_(layer.weight, std=5.0)  # opinions that are far from the labels, and from each other
    return model.train()


def fit(model, toy) -> tuple[list, torch.Tensor]:
    dataset = ClipDataset(toy, toy.videos, streams=tuple(STREAMS), classes=toy.classes, clip=CLIP)
    batches = list(make_loader(dataset, ViewBatches(dataset, batch=7), workers=0, pin=False))
    labels = torch.tensor([dataset.rows[video.label] for video in toy.videos])
    fit_head(model, batches, labels, classes=8, device=CPU, add_up=lambda values: values)
    return batches, labels


@pytest.mark.parametrize("before", [(1.0, 1.0, 1.0, 1.0), (0.1, 2.0, 0.9, 0.3)])
def test_the_weighted_head_answers_with_the_weights_fitted_to_what_the_streams_answer_alone(toy, before):
    """Whatever they were before."""
    model = a_model(toy, "weighted")
    model.head.set_weights(dict(zip(STREAMS, before, strict=False)), before[3])
    batches, labels = fit(model, toy)
    with torch.no_grad():
        parts = [model.eval().encode(clips_of(batch), batch.present).logits for batch in batches]
    logits = {name: torch.cat([part[name] for part in parts]) for name in STREAMS}
    present = {name: torch.cat([batch.present[name] for batch in batches]) for name in STREAMS}
    weights, temperature = fit_weights(logits, present, labels)
    assert dict(zip(STREAMS, model.head.weights.tolist(), strict=True)) == pytest.approx(weights, rel=1e-3)
    assert model.head.temperature.item() == pytest.approx(temperature, rel=1e-3) and temperature > 1.5
    every = tuple(STREAMS)
    answers = answer(model, batches, [every], videos=len(labels), classes=8, device=CPU)
    chosen = answers.probabilities(subset_name(every)).gather(1, labels[:, None])
    expected = loss_of(weights, temperature, logits, present, labels)
    assert -chosen.log().mean().item() == pytest.approx(expected, rel=1e-3)
    assert expected < loss_of(dict.fromkeys(STREAMS, 1.0), 1.0, logits, present, labels)


def clips_of(batch):
    return prepare(batch, training=False)


@pytest.mark.parametrize("head", [name for name in HEADS if name != "weighted"])
def test_heads_that_fit_nothing_are_left_as_they_are_and_cost_nothing(toy, head, monkeypatch):
    model = a_model(toy, head)
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(fitting, "answer", None)
    fit(model, toy)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
