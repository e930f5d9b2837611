"""Why a model answers as it does."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import tristream
from fusion.heads.head import StreamOutputs
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.features_store import FeaturesStoreSettings, features_store
from streams.audio import CENTRE, SPREAD
from tasks.explain.__main__ import main
from tasks.explain.check import area, randomised, rank_correlation
from tasks.explain.explain import as_object, explain
from tasks.explain.maps import integrated_gradients, log_odds, smoothed
from tasks.explain.occlusion import stretches
from tasks.explain.picture import draw
from tasks.explain.settings import ExplainSettings
from tests.tasks.conftest import CPU, TINY
from train import train

SMALL = {"views": 2, "steps": 4}


@pytest.fixture(scope="module")
def found(model, store):
    """An explanation of a video with all streams, of a class that is not the likeliest."""
    likely = explain(model, store, store.find("one.mkv"), **SMALL)
    other = list(likely.classes)[2]
    return explain(model, store, store.find("one.mkv"), label=other, measure=True, **SMALL)


def test_shares_add_up_to_what_predict_answers(model, store, found):
    asked = model.predict(store, video="one.mkv", views=2)
    assert found.probability == pytest.approx(asked.classes[found.label], abs=1e-6)
    assert found.chance + sum(found.shares.values()) == pytest.approx(found.probability, abs=1e-6)
    likely = explain(model, store, store.find("one.mkv"), **SMALL)
    assert likely.label == asked.top(1)[0][0] and likely.shares == pytest.approx(asked.shares, abs=1e-6)
    for name in model.streams:
        assert found.alone[name] == pytest.approx(asked.streams[name][found.label], abs=1e-6)


def test_maps_add_up_to_the_change_of_the_log_odds_the_more_closely_the_more_steps(model, found):
    target = model.classes.index(found.label)
    coarse, fine = (integrated_gradients(found.clips, target, steps=steps) for steps in (1, 256))
    change = abs(fine.odds - fine.nothing)
    assert abs(fine.error) < 0.05 * change and abs(fine.error) < abs(coarse.error)
    total = sum(sum(values) for values in found.relevance.values())
    assert total == pytest.approx(found.odds - found.odds_of_nothing + found.error, abs=1e-5)


def test_of_a_linear_model_a_map_is_the_weight_times_the_change(found):
    """The log-odds of two classes by softmax of a linear score are linear: the map is known."""
    clips = found.clips

    class Linear(torch.nn.Module):
        def encode(self, inputs, present, rows=None):
            score = sum(values.flatten(1).mean(dim=1) * (at + 1) for at, values in enumerate(inputs.values()))
            same = {name: score[:, None, None] for name in inputs}
            flat = {name: score[:, None] for name in inputs}
            return StreamOutputs(flat, flat, same, same)

        def answer(self, outputs, present):
            fused = next(iter(outputs.features.values()))
            return fused, torch.cat([fused, torch.zeros_like(fused)], dim=1)

    maps = integrated_gradients(replace(clips, network=Linear()), 0, steps=3)
    nothing = clips.nothing()
    for at, (name, values) in enumerate(clips.inputs.items()):
        change = (at + 1) * (values - nothing[name]) / values[0].numel() / len(clips)
        expected = change.sum(dim=1) if values.ndim == 5 else change
        torch.testing.assert_close(maps.values[name], expected, atol=1e-8, rtol=1e-4)
    assert maps.error == pytest.approx(0, abs=1e-5)


def test_log_odds_do_not_saturate():
    answer = torch.tensor([[100.0, 0.0, -2.0]], dtype=torch.float64).softmax(dim=1)
    expected = 100 - np.logaddexp(0.0, -2.0)
    assert log_odds(answer, 0).item() == pytest.approx(expected) and log_odds(answer, 1).item() < -99


def test_what_is_hidden_of_one_stream_is_as_if_its_input_showed_nothing(found):
    clips = found.clips
    for name, values in clips.inputs.items():
        hidden = stretches(clips.moments[name], np.array(found.edges)) == 3
        assert hidden.any() and not hidden.all()
        steps = hidden[:, None, :, None, None] if values.ndim == 5 else hidden[:, None]
        expected = clips.answers(clips.inputs | {name: torch.where(steps, clips.nothing()[name], values)})
        torch.testing.assert_close(clips.answers_without(name, hidden), expected, atol=1e-6, rtol=1e-5)
    everything = torch.ones_like(clips.moments["audio"], dtype=torch.bool)
    assert not torch.equal(clips.answers_without("audio", everything), clips.answers(clips.inputs))


def test_moments_are_when_the_steps_of_the_inputs_are(model, store):
    """A picture of the store at each moment is the picture of the input."""
    (part,) = model.clips(store, [store.find("both.mkv")], views=3, gradients=True)
    video = store.find("both.mkv")
    for name in ("rgb", "flow"):
        moments = part.moments[name]
        assert moments.shape == part.inputs[name].shape[:1] + part.inputs[name].shape[2:3]
        assert ((moments - part.times[:, :1] > 0) & (moments < part.times[:, 1:])).all()
    for clip, row in enumerate(part.moments["audio"].tolist()):
        assert np.diff(row) == pytest.approx(0.01)
        mel = store.mel(video, round(100 * row[0] - 0.5), round(100 * row[-1] + 0.5)).T.astype(np.float32)
        heard = part.inputs["audio"][clip].detach() * SPREAD + CENTRE
        torch.testing.assert_close(heard, torch.from_numpy(mel), atol=1e-3, rtol=0)


def test_a_stream_that_is_absent_has_its_reason_and_no_share(model, store):
    found = explain(model, store, store.find("mute.mkv"), **SMALL)
    assert set(found.shares) == set(found.peaks) == {"rgb", "flow"} and "audio" in found.missing
    assert found.chance + sum(found.shares.values()) == pytest.approx(found.probability, abs=1e-6)
    assert not found.maps.values["audio"].any()
    alone = explain(model, store, store.find("one.mkv"), streams="rgb", **SMALL)
    assert set(alone.shares) == {"rgb"} and not alone.maps.values["flow"].any()


def test_a_repeating_sound_and_segments_know_their_times(model, store):
    recipe = model.settings.recipe
    clip = replace(recipe.clip, segments=2, repeat_sound=True, audio_seconds=1.5)
    own = replace(model, settings=replace(model.settings, recipe=replace(recipe, clip=clip)))
    (part,) = own.clips(store, [store.find("one.mkv")], gradients=True)
    sound = part.moments["audio"][0]
    assert part.inputs["audio"].shape[2] == len(sound) == 300
    assert sound.min() >= 0 and sound.max() < 0.96 and len(sound.unique()) == 96
    inputs = part.inputs["audio"][0].detach()
    for again in (sound == sound[k] for k in range(0, 300, 37)):
        assert torch.equal(inputs[:, again], inputs[:, again][:, :1].expand(-1, int(again.sum())))


def test_random_weights_are_those_of_the_last_layers_first_and_have_the_same_distribution(model):
    true = dict(model.network.named_parameters())
    changed = []
    for _, network in randomised(model.network):
        changed.append({name for name, other in network.named_parameters() if not torch.equal(other, true[name])})
        for name, other in network.named_parameters():
            torch.testing.assert_close(other.flatten().sort()[0], true[name].flatten().sort()[0])
    heads, lstms, towers = changed
    assert heads < lstms < towers and not any("tower" in name for name in lstms)
    assert {name.split(".")[0] for name in heads} <= {"head", "auxiliary"} and any("lstm" in name for name in lstms)


def test_rank_correlation_and_areas_are_those_of_others():
    one, other = torch.randn(2, 3, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    expected = spearmanr(smoothed(one).flatten(), smoothed(one + other).flatten()).statistic
    assert rank_correlation(one, one + other) == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(one, torch.zeros_like(one)) == 0
    assert area([1.0, 0.5, 0.0]) == pytest.approx(np.trapezoid([1.0, 0.5, 0.0], dx=0.5))


def test_the_check_has_what_it_says(found):
    check = found.check
    assert list(check.similarity) == ["the heads", "and the models of time", "and the towers"]
    assert all(-1 <= alike <= 1 for similarity in check.similarity.values() for alike in similarity.values())
    curves = check.curves
    assert curves.deletion[0] == curves.insertion[-1] == pytest.approx(found.probability, abs=1e-6)
    assert curves.deletion[-1] == pytest.approx(curves.insertion[0], abs=1e-6)


def test_the_command_writes_a_picture_numbers_maps_and_a_page(run_folder, videos, tmp_path, capsys):
    settings = ExplainSettings(run_folder, videos / "one.mkv", views=2, steps=2, device="cpu")
    main(replace(settings, out=tmp_path / "why", page=tmp_path / "why.html", json=True))
    printed = json.loads(capsys.readouterr().out)
    written = sorted(path.name for path in (tmp_path / "why").iterdir())
    assert written == ["explanation.json", "explanation.png", "maps.npz"]
    assert printed == json.loads((tmp_path / "why" / "explanation.json").read_text())
    with np.load(tmp_path / "why" / "maps.npz") as maps:
        assert maps["rgb"].shape == (2, 2, 32, 32) and maps["audio_seconds"].shape == (2, 32)
    text = (tmp_path / "why.html").read_text()
    data = json.loads(re.search(r'application/json">(.*?)</script>', text, re.DOTALL)[1])
    assert set(data["streams"]) == {"rgb", "flow", "audio"} and data["source"].startswith("data:video")
    main(replace(settings, streams="audio"))
    assert "shares add up to" in capsys.readouterr().out


def test_wrong_input_is_named_and_leaves_nothing(run_folder, videos, store, tmp_path):
    settings = ExplainSettings(run_folder, videos / "one.mkv", views=1, steps=1, out=tmp_path / "why", device="cpu")
    for wrong, named in (
        ({"label": "zebra"}, "zebra"),
        ({"streams": "smell"}, "smell"),
        ({"views": 0}, "views"),
        ({"steps": 0}, "steps"),
        ({"page": tmp_path / "why.pdf"}, "why.pdf"),
        ({"source": videos / "gone.mkv"}, "gone.mkv"),
        ({"source": store.path}, "4 videos"),
        ({"source": videos / "mute.mkv", "streams": "audio"}, "no audio track"),
    ):
        with pytest.raises(UserError, match=named):
            main(replace(settings, **wrong))
        assert not (tmp_path / "why").exists()


def test_what_is_printed_as_json_is_json(found):
    assert json.loads(json.dumps(as_object(found), allow_nan=False))["label"] == found.label


def test_features_that_others_extracted_are_explained_too(tmp_path):
    rng = np.random.default_rng(0)
    names = np.array([f"s{k:02d}" for k in range(24)])
    arrays = {"smell": rng.normal(size=(24, 3)), "text": rng.normal(size=(24, 2, 4))}
    np.savez(tmp_path / "f.npz", name=names, **arrays)
    rows = "".join(f"{name},{'ab'[k % 2]},g{k // 4}\n" for k, name in enumerate(names))
    (tmp_path / "labels.csv").write_text("name,label,group\n" + rows)
    store = features_store(FeaturesStoreSettings(tmp_path / "f.npz", tmp_path / "labels.csv", tmp_path / "out.h5"))
    recipe = replace(TINY, epochs=1, clip=replace(TINY.clip, frames=2, stride=1))
    run = train(TrainSettings(streams="smell,text", data=store.path, run=tmp_path / "run", recipe=recipe, machine=CPU))
    found = explain(tristream.load(run, device="cpu"), store, store.videos[0], views=1, steps=64)
    assert found.chance + sum(found.shares.values()) == pytest.approx(found.probability, abs=1e-6)
    assert set(found.peaks) == {"smell", "text"} and found.peaks["text"].x is None
    assert abs(found.error) < 0.05 * abs(found.odds - found.odds_of_nothing)
    draw(found, tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 10_000
