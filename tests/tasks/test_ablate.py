"""python -m tasks.ablate"""

import json
import math
import shutil
import statistics
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fusion.checkpoint import Checkpoints
from preprocess.errors import UserError
from streams import STREAMS, subset_name, subsets
from tasks import ablate as ablation
from tasks.ablate import FILES, AblateSettings, ablate, print_result
from tasks.controls import weighted_opinion
from tasks.evaluate import ask
from tasks.findings import best_single
from tasks.run import load_run
from tasks.tables import csv_text, latex, markdown, tables
from tests.preprocess.commands import assert_one_line_error, run
from tests.preprocess.runs import run_here
from tests.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY

ONCE = replace(TINY, epochs=1)
PAIR = ("rgb", "audio")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Videos to train on, and sixteen test videos of half of the classes, of which some lack sound."""
    test = [spec for spec in three_bit(32, prefix="test", split="test", frames=10) if spec.bits[0] == 0]
    test = [replace(spec, streams=spec.streams[: 2 if k % 5 == 0 else 3]) for k, spec in enumerate(test)]
    specs = [*three_bit(24, split="train", frames=10), *test]
    return make_store(tmp_path_factory.mktemp("store") / "s.h5", specs)


@pytest.fixture(scope="module")
def settings(store, tmp_path_factory):
    ceilings = tmp_path_factory.mktemp("ceilings") / "ceilings.json"
    ceilings.write_text(json.dumps({"rgb": 0.25, "audio": 0.25, "rgb+audio": 0.5}))
    return AblateSettings(
        data=store.path,
        streams=",".join(PAIR),
        seeds=2,
        out=tmp_path_factory.mktemp("out") / "ablation",
        views=1,
        ceilings=ceilings,
        recipe=ONCE,
        machine=CPU,
    )


@pytest.fixture(scope="module")
def result(settings):
    return ablate(settings)


def runs(folder: Path, subset: tuple[str, ...] = PAIR, seed: int = 0) -> list[Path]:
    return sorted(folder.glob(f"{subset_name(subset)}-seed{seed}-*"))


def answers_of(settings, store, subset: tuple[str, ...], seed: int, names, split: str = "test"):
    (folder,) = runs(settings.out, subset, seed)
    loaded = load_run(folder, device="cpu")
    held = loaded.split.val
    videos = [video for video in store.videos if (video.split == "test" if split == "test" else video.path in held)]
    labels = torch.tensor([loaded.classes.index(video.label) for video in videos])
    return ask(loaded, store, videos, names, views=1), labels


def top1(probabilities, answered, labels) -> float:
    return ((probabilities.argmax(dim=1) == labels) & answered).double().mean().item()


def test_each_subset_is_trained_and_judged_on_the_test_videos_once_a_seed(result, settings, store):
    assert "16 test videos" in result["which"]
    for subset in subsets(PAIR):
        name = subset_name(subset)
        expected = []
        for seed in range(2):
            answers, labels = answers_of(settings, store, subset, seed, [subset])
            expected.append(top1(answers.probabilities(name), answers.answered(name), labels))
        assert result["top1"]["trained"][name] == pytest.approx(expected)


def test_the_joint_control_is_the_model_of_all_with_the_rest_taken_away(result, settings, store):
    assert list(result["top1"]["joint"]) == [*PAIR, "rgb+audio"]
    for seed in range(2):
        answers, labels = answers_of(settings, store, PAIR, seed, subsets(PAIR))
        for name in result["top1"]["joint"]:
            expected = top1(answers.probabilities(name), answers.answered(name), labels)
            assert result["top1"]["joint"][name][seed] == pytest.approx(expected)
    without = {row["missing"]: row["all"] for row in result["missing"]}
    assert without == {"rgb": result["top1"]["joint"]["audio"], "audio": result["top1"]["joint"]["rgb"]}


def test_the_mean_control_is_the_mean_of_separate_models_over_those_that_answer(result, settings, store):
    assert set(result["top1"]["mean"]) == {"rgb+audio"}
    for seed in range(2):
        total, answered = 0, 0
        for name in PAIR:
            answers, labels = answers_of(settings, store, (name,), seed, [(name,)])
            total = total + answers.probabilities(name)  # zeros where there is no answer
            answered = answered + answers.answered(name).double()
        assert answered.min() == 1 and answered.max() == 2
        expected = top1(total / answered[:, None], answered > 0, labels)
        assert result["top1"]["mean"]["rgb+audio"][seed] == pytest.approx(expected)


def test_controls_are_fitted_and_chosen_on_the_validation_videos_where_test_videos_are_judged(
    result, settings, store, monkeypatch, tmp_path
):
    fits, choices = [], []

    def fit(alone, held, labels):
        fits.append((alone, held, labels))
        return weighted_opinion(alone, held, labels)

    def choose(singles, streams):
        choices.append(singles)
        return best_single(singles, streams)

    monkeypatch.setattr("tasks.ablate.weighted_opinion", fit)
    monkeypatch.setattr("tasks.ablate.best_single", choose)
    again = ablate(replace(settings, out=tmp_path, runs=settings.out))
    assert again["chosen_on"] == again["fitted_on"] == "the validation videos"
    (singles,) = choices
    for seed, (alone, held, labels) in enumerate(fits):
        for name in PAIR:
            asked, asked_labels = answers_of(settings, store, (name,), seed, [(name,)])
            torch.testing.assert_close(alone[name].probabilities, asked.probabilities(name))
            kept, kept_labels = answers_of(settings, store, (name,), seed, [(name,)], "val")
            torch.testing.assert_close(held[name].probabilities, kept.probabilities(name))
            assert torch.equal(labels, kept_labels) and len(labels) == 8
            expected = top1(kept.probabilities(name), kept.answered(name), kept_labels)
            assert singles[name][seed] == pytest.approx(expected)
        expected = weighted_opinion(alone, held, labels).right(asked_labels).mean()
        assert again["top1"]["weighted"]["rgb+audio"][seed] == pytest.approx(expected)
    assert len(fits) == 2 and again == result


def test_the_differences_are_paired_and_of_the_seeds_together(result):
    tops = result["top1"]
    best, mean, weighted = result["differences"]
    for row, control in (
        (best, tops["trained"][result["best_single"]]),
        (mean, tops["mean"]["rgb+audio"]),
        (weighted, tops["weighted"]["rgb+audio"]),
    ):
        points = [fused - other for fused, other in zip(tops["trained"]["rgb+audio"], control, strict=True)]
        assert row["points"] == pytest.approx(points) and row["mean"] == pytest.approx(statistics.mean(points))
        assert row["low"] <= row["mean"] <= row["high"]


def test_the_values_of_the_streams_add_up_to_all_less_the_label_prior(result, store):
    test = [video.label for video in store.videos if video.split == "test"]
    assert result["empty"] == pytest.approx(test.count("000") / 16)  # all train as often: the first by name
    assert set(result["shapley"]) == {"trained", "joint"}
    for shares in result["shapley"].values():
        for seed in range(2):
            total = sum(shares[name][seed] for name in PAIR)
            assert total == pytest.approx(result["top1"]["trained"]["rgb+audio"][seed] - result["empty"])


def test_the_files_and_the_screen_say_what_was_found(result, settings, capsys):
    assert {*FILES} <= {path.name for path in settings.out.iterdir()}
    assert (settings.out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((settings.out / "ablation.json").read_text()) == result
    assert (settings.out / "table.md").read_text() == markdown(tables(result))
    assert (settings.out / "table.tex").read_text() == latex(tables(result))
    assert (settings.out / "table.csv").read_text() == csv_text(result).replace("\r\n", "\n")
    print_result(result)
    shown = capsys.readouterr().out
    for words in ("16 test videos", "Shapley", "95 % interval", "identical files on both sides", "presence alone"):
        assert words in shown


def weights(folder) -> dict:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/*.safetensors")}


def test_the_same_command_again_trains_nothing_and_finds_the_same(result, settings):
    before = weights(settings.out)
    assert len(before) == 2 * 3 * 2
    assert ablate(settings) == result
    assert weights(settings.out) == before


def test_another_recipe_is_trained_beside_and_the_old_runs_are_found_again(result, settings, tmp_path):
    out = tmp_path / "shared"
    shutil.copytree(settings.out, out)
    settings, before = replace(settings, out=out, seeds=1, subsets=("audio",)), weights(out)
    ablate(replace(settings, recipe=replace(ONCE, lr=0.01)))
    assert len(runs(out, ("audio",))) == 2 and len(runs(out)) == 1
    after = weights(out)
    assert before.items() <= after.items() and len(after) == len(before) + 2
    ablate(settings)
    assert weights(out) == after


def test_moved_data_are_the_same_data_and_ablations_share_runs(result, settings, tmp_path):
    out, moved = tmp_path / "shared", tmp_path / "moved.h5"
    shutil.copytree(settings.out, out)
    shutil.copy(settings.data, moved)
    before = weights(out)
    other = replace(settings, data=moved, out=tmp_path / "other", runs=out, subsets=("rgb",))
    again = ablate(replace(other, machine=replace(CPU, keep=1)))
    assert again["top1"]["trained"] == {"rgb": result["top1"]["trained"]["rgb"]}
    assert weights(out) == before
    assert {path.name for path in other.out.iterdir()} == {*FILES}


def test_an_ablation_starts_from_weights_and_knows_them_by_what_they_hold(result, settings, tmp_path):
    """With another recipe, so that nothing is there already; and what it starts from lies elsewhere when it goes on."""
    start, out, moved = runs(settings.out)[0], tmp_path / "out", tmp_path / "moved"
    settings = replace(settings, seeds=1, out=out, recipe=replace(ONCE, lr=1e-30, weight_decay=0.0))
    found = ablate(replace(settings, init=(str(start),)))
    for subset in subsets(PAIR):
        (folder,) = runs(out, subset)
        told = json.loads((folder / "settings.json").read_text())["init"]
        assert [one["stream"] for one in told] == list(subset) and not any(one["left_out"] for one in told)
        learned, before = (load_file(path / "best.safetensors") for path in (folder, start))
        name = f"encoders.{subset[0]}.lstm.weight_hh_l0"
        torch.testing.assert_close(learned[name], before[name], rtol=0, atol=0)
    before = weights(out)
    shutil.copytree(start, moved)
    assert ablate(replace(settings, init=tuple(f"{name}={moved}" for name in PAIR))) == found
    assert weights(out) == before


def test_subsets_of_several_streams_start_from_the_runs_of_their_single_streams(result, settings, tmp_path):
    """They learn nothing here, so that what they started from is seen in what they are."""
    out = tmp_path / "shared"
    shutil.copytree(settings.out, out)
    (plain,), before = runs(out), weights(out)
    settings = replace(settings, out=out, seeds=1, subsets=("rgb+audio",), joint_epochs=2, joint_lr=1e-30)
    found = ablate(settings)
    assert list(found["top1"]["trained"]) == [*PAIR, "rgb+audio"]  # the single streams are needed
    (folder,) = {*runs(out)} - {plain}
    singles = {name: out / runs(out, (name,))[0].name / "last.safetensors" for name in PAIR}
    told = json.loads((folder / "settings.json").read_text())
    assert told["settings"]["init"] == [f"{name}={path}" for name, path in singles.items()]
    assert (told["settings"]["recipe"]["epochs"], told["settings"]["recipe"]["lr"]) == (2, 1e-30)
    learned = load_file(folder / "last.safetensors")
    for path in singles.values():
        old = {name: values for name, values in load_file(path).items() if name.startswith(("encoders.", "auxiliary."))}
        kept = {name for name in old if "running" not in name and "num_batches" not in name}
        assert len(kept) > 10 and all(torch.equal(learned[name], old[name]) for name in kept)
    after = weights(out)
    assert before.items() <= after.items() and len(after) == len(before) + 2
    assert ablate(settings) == found
    assert weights(out) == after


@pytest.mark.parametrize("epochs", [0, 3])
def test_what_each_run_starts_from_and_how_it_trains(result, settings, tmp_path, monkeypatch, epochs):
    """The runs of the same subset and seed stand for those that would be trained."""
    given = {}

    def known(folder, store, split, *, streams, seed, init, recipe, machine):
        given[streams, seed] = init, recipe
        return runs(settings.out, streams, seed)[0]

    monkeypatch.setattr(ablation, "trained_run", known)
    init = (str(runs(settings.out)[0]),)
    found = ablate(replace(settings, out=tmp_path, init=init, joint_epochs=epochs, joint_lr=0.5))
    assert found == result and len(given) == 2 * 3
    for seed in range(2):
        for name in PAIR:
            assert given.pop(((name,), seed)) == (init, ONCE)
        own = tuple(f"{name}={runs(settings.out, (name,), seed)[0] / 'last.safetensors'}" for name in PAIR)
        expected = (own, replace(ONCE, epochs=epochs, lr=0.5)) if epochs else (init, ONCE)
        assert given.pop((PAIR, seed)) == expected


def test_an_interrupted_ablation_goes_on_and_finds_the_same(result, settings, tmp_path, monkeypatch):
    """Stopped within the second run's first epoch, which leaves nothing to go on from."""
    import train as training

    settings = replace(settings, out=tmp_path / "again")
    real, calls = training.validate, count(1)

    def interrupted(*positional, **named):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*positional, **named)

    monkeypatch.setattr(training, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(settings)
    first = weights(settings.out)
    assert first
    again = ablate(settings)
    assert again == result
    assert first.items() <= weights(settings.out).items()


def test_an_ablation_that_was_stopped_after_a_checkpoint_goes_on_from_it(result, settings, tmp_path, monkeypatch):
    settings = replace(settings, out=tmp_path / "again", machine=replace(CPU, save_minutes=0.0))
    real, calls = Checkpoints.save, count(1)

    def interrupted(self, *positional):
        real(self, *positional)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate(settings)
    (stopped,) = settings.out.glob("*/checkpoints")
    assert len(list(stopped.iterdir())) == 2 and not (stopped.parent / "last.safetensors").exists()
    assert ablate(settings) == result


def test_only_the_subsets_asked_for_are_trained(store, settings, tmp_path):
    chosen = replace(settings, streams="rgb,flow,audio", subsets=("audio", "flow+rgb"), seeds=1, out=tmp_path / "some")
    result = ablate(replace(chosen, ceilings=None))
    assert set(result["top1"]["trained"]) == {"audio", "rgb+flow"}
    assert result["top1"]["joint"] == {} and result["top1"]["mean"] == {}
    folders = [path.name for path in chosen.out.iterdir() if path.is_dir()]
    assert {name.rpartition("-")[0] for name in folders} == {"audio-seed0", "rgb+flow-seed0"} and len(folders) == 2
    assert result["shapley"] == {} and result["differences"] == []
    assert result["best_single"] == "audio"


@pytest.mark.parametrize(
    ("wanted", "trained", "values", "best"),
    [
        ({"streams": "audio"}, ["audio"], {"trained", "joint"}, "audio"),
        ({"subsets": ("rgb+audio",)}, ["rgb+audio"], {"joint"}, None),
    ],
)
def test_where_little_is_trained_no_more_is_said_than_follows(
    result, settings, tmp_path, wanted, trained, values, best
):
    found = ablate(replace(settings, out=tmp_path, runs=settings.out, seeds=1, **wanted))
    assert list(found["top1"]["trained"]) == trained
    assert (set(found["shapley"]), found["best_single"], found["differences"]) == (values, best, [])
    assert {path.name for path in tmp_path.iterdir()} == {*FILES}


@pytest.mark.slow
def test_all_seven_subsets_read_by_workers_though_few_videos_are_judged(tmp_path):
    """Few: they are read by the program itself, whose OpenCV then runs threads when the next run starts workers."""
    store = make_store(tmp_path / "s.h5", three_bit(24, frames=10))
    machine = replace(CPU, workers=1)
    settings = AblateSettings(data=store.path, out=tmp_path / "out", views=1, recipe=ONCE, machine=machine)
    result = ablate(settings)
    assert list(result["top1"]["trained"]) == [subset_name(subset) for subset in subsets(tuple(STREAMS))]
    assert "validation videos" in result["which"]
    assert len(result["top1"]["joint"]) == 7 and len(result["top1"]["mean"]) == len(result["top1"]["weighted"]) == 4
    assert list(result["shapley"]["joint"]) == list(STREAMS)
    controls = [row["control"] for row in result["differences"]]
    assert len(controls) == 6 and "model trained on rgb+flow" in controls
    assert "favours" in result["chosen_on"] and "other groups" in result["fitted_on"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seeds": 0}, "--seeds"),
        ({"subsets": ("rgb+smell",)}, "unknown stream 'smell'"),
        ({"subsets": ("flow",)}, "flow, which is no subset of rgb,audio"),
        ({"subsets": ("rgb", "rgb+flow")}, "rgb\\+flow"),
        ({"recipe": replace(ONCE, model=replace(ONCE.model, head="none"))}, "unknown head 'none'"),
        ({"recipe": replace(ONCE, model=replace(ONCE.model, towers=("audio=lstm",)))}, "unknown tower 'audio=lstm'"),
        ({"init": ("flow=w.pt",)}, "does not train flow"),
        ({"init": ("none.pt",)}, "--init none.pt: there is no such run or file"),
        ({"joint_epochs": -1}, "--joint-epochs must be at least 0, not -1"),
        *(({"joint_epochs": 1, "joint_lr": lr}, "--joint-lr must be positive") for lr in (0.0, math.nan, math.inf)),
        ({"bootstrap_by": "class"}, "unknown unit 'class': use group or video"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings, tmp_path, wrong, says):
    with pytest.raises(UserError, match=says):
        ablate(replace(settings, out=tmp_path / "out", **wrong))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["[0.25]", "{", '{"rgb": "high"}', '{"rgb": null}'])
def test_ceilings_that_are_none_are_an_error(settings, tmp_path, text):
    (tmp_path / "ceilings.json").write_text(text)
    with pytest.raises(UserError, match=r"ceilings\.json is no JSON object"):
        ablate(replace(settings, ceilings=tmp_path / "ceilings.json"))


def test_the_command_line_answers_wrong_input_with_one_line(tmp_path):
    assert_one_line_error(run("tasks.ablate", "--data", tmp_path / "none.h5"), "no store", "none.h5")


def test_wrong_options_of_joint_training_are_one_line(tmp_path, monkeypatch, capsys):
    for options, says in ((["--joint-epochs", -1], "at least 0"), (["--joint-epochs", 1, "--joint-lr", 0], "positive")):
        options = ["--data", tmp_path / "none.h5", *options]
        assert_one_line_error(run_here(monkeypatch, capsys, *options, main=ablation.main), says)
