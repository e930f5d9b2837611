"""python -m tasks.ablate"""

import csv
import json
import statistics
from collections import defaultdict
from dataclasses import asdict, replace

import pytest
import torch

from preprocess.common.errors import UserError
from streams.registry import STREAMS, subset_name, subsets
from tasks.ablate import FILES, ablate, print_result
from tasks.ablation.controls import fitted_probabilities
from tasks.ablation.findings import best_single
from tasks.ablation.tables import csv_text, latex, markdown, tables
from tasks.run import load_run
from tasks.settings import AblateSettings
from tests.support.commands import assert_one_line_error, run
from tests.support.stores import make_store, three_bit
from tests.tasks.ablation.conftest import ONCE, PAIR, runs
from tests.tasks.conftest import CPU


def answers_of(settings, store, subset: tuple[str, ...], seed: int, names, split: str = "test"):
    (folder,) = runs(settings.out, subset, seed)
    loaded = load_run(folder, device="cpu")
    held = loaded.split.val
    videos = [video for video in store.videos if (video.split == "test" if split == "test" else video.path in held)]
    labels = torch.tensor([loaded.model.classes.index(video.label) for video in videos])
    return loaded.model.answers(store, videos, names, views=1), labels


def top1(probabilities, answered, labels) -> float:
    return ((probabilities.argmax(dim=1) == labels) & answered).double().mean().item()


def test_each_subset_is_trained_and_judged_on_the_test_videos_once_a_seed(result, settings, store):
    assert "16 test videos" in result.which
    for subset in subsets(PAIR):
        name = subset_name(subset)
        expected = []
        for seed in range(2):
            answers, labels = answers_of(settings, store, subset, seed, [subset])
            expected.append(top1(answers.probabilities(name), answers.answered(name), labels))
        assert result.top1["trained"][name] == pytest.approx(expected)


def test_the_joint_control_is_the_model_of_all_with_the_rest_taken_away(result, settings, store):
    assert list(result.top1["joint"]) == [*PAIR, "rgb+audio"]
    for seed in range(2):
        answers, labels = answers_of(settings, store, PAIR, seed, subsets(PAIR))
        for name in result.top1["joint"]:
            expected = top1(answers.probabilities(name), answers.answered(name), labels)
            assert result.top1["joint"][name][seed] == pytest.approx(expected)
    without = {row.missing: row.all for row in result.missing}
    assert without == {"rgb": result.top1["joint"]["audio"], "audio": result.top1["joint"]["rgb"]}


def test_the_mean_control_is_the_mean_of_separate_models_over_those_that_answer(result, settings, store):
    assert set(result.top1["mean"]) == {"rgb+audio"}
    for seed in range(2):
        total, answered = 0, 0
        for name in PAIR:
            answers, labels = answers_of(settings, store, (name,), seed, [(name,)])
            total = total + answers.probabilities(name)  # zeros where there is no answer
            answered = answered + answers.answered(name).double()
        assert answered.min() == 1 and answered.max() == 2
        expected = top1(total / answered[:, None], answered > 0, labels)
        assert result.top1["mean"]["rgb+audio"][seed] == pytest.approx(expected)


def test_controls_are_fitted_and_chosen_on_the_validation_videos_where_test_videos_are_judged(
    result, settings, store, monkeypatch, tmp_path
):
    fits, choices = [], []

    def fit(how, alone, held, labels):
        fits.append((how, alone, held, labels))
        return fitted_probabilities(how, alone, held, labels)

    def choose(singles, streams):
        choices.append(singles)
        return best_single(singles, streams)

    monkeypatch.setattr("tasks.ablate.fitted_probabilities", fit)
    monkeypatch.setattr("tasks.ablate.best_single", choose)
    again = ablate(replace(settings, out=tmp_path, runs=settings.out))
    assert again.chosen_on == again.fitted_on == "the validation videos"
    (singles,) = choices
    for number, (how, alone, held, labels) in enumerate(fits):
        seed = number // 2
        for name in PAIR:
            asked, asked_labels = answers_of(settings, store, (name,), seed, [(name,)])
            torch.testing.assert_close(alone[name].probabilities, asked.probabilities(name))
            kept, kept_labels = answers_of(settings, store, (name,), seed, [(name,)], "val")
            torch.testing.assert_close(held[name].probabilities, kept.probabilities(name))
            assert torch.equal(labels, kept_labels) and len(labels) == 8
            expected = top1(kept.probabilities(name), kept.answered(name), kept_labels)
            assert singles[name][seed] == pytest.approx(expected)
        expected = fitted_probabilities(how, alone, held, labels).right(asked_labels).mean()
        assert again.top1[how]["rgb+audio"][seed] == pytest.approx(expected)
    assert [how for how, *_ in fits] == ["weighted", "stacked"] * 2 and again == result


def test_the_differences_are_paired_and_of_the_seeds_together(result):
    tops = result.top1
    best, mean, weighted, stacked = result.differences
    for row, control in (
        (best, tops["trained"][result.best_single]),
        (mean, tops["mean"]["rgb+audio"]),
        (weighted, tops["weighted"]["rgb+audio"]),
        (stacked, tops["stacked"]["rgb+audio"]),
    ):
        points = [fused - other for fused, other in zip(tops["trained"]["rgb+audio"], control, strict=True)]
        assert row.points == pytest.approx(points) and row.mean == pytest.approx(statistics.mean(points))
        assert row.low <= row.mean <= row.high


def test_the_values_of_the_streams_add_up_to_all_less_the_label_prior(result, store):
    test = [video.label for video in store.videos if video.split == "test"]
    assert result.empty == pytest.approx(test.count("000") / 16)  # all train as often: the first by name
    assert set(result.shapley) == {"trained", "joint"}
    for shares in result.shapley.values():
        for seed in range(2):
            total = sum(shares[name][seed] for name in PAIR)
            assert total == pytest.approx(result.top1["trained"]["rgb+audio"][seed] - result.empty)


def test_the_files_and_the_screen_say_what_was_found(result, settings, capsys):
    assert {*FILES} <= {path.name for path in settings.out.iterdir()}
    assert (settings.out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((settings.out / "ablation.json").read_text()) == asdict(result)
    assert (settings.out / "table.md").read_text() == markdown(tables(result))
    assert (settings.out / "table.tex").read_text() == latex(tables(result))
    assert (settings.out / "table.csv").read_text() == csv_text(result).replace("\r\n", "\n")
    print_result(result)
    shown = capsys.readouterr().out
    for words in ("16 test videos", "Shapley", "95 % interval", "identical files on both sides", "presence alone"):
        assert words in shown


def test_every_videos_probabilities_are_written_for_every_model(result, settings, store):
    with open(settings.out / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "seed", "method", "streams", "answer", *store.classes]
    right = defaultdict(list)
    for row in rows:
        right[row["method"], row["streams"], int(row["seed"])].append(row["answer"] == row["label"])
    expected = {
        (method, name, seed): top
        for method, found in result.top1.items()
        for name, tops in found.items()
        for seed, top in enumerate(tops)
    }
    assert {key: len(values) for key, values in right.items()} == dict.fromkeys(expected, 16)
    assert {key: sum(values) / 16 for key, values in right.items()} == pytest.approx(expected)


def test_only_the_subsets_asked_for_are_trained(store, settings, tmp_path):
    chosen = replace(settings, streams="rgb,flow,audio", subsets=("audio", "flow+rgb"), seeds=1, out=tmp_path / "some")
    result = ablate(replace(chosen, ceilings=None))
    assert set(result.top1["trained"]) == {"audio", "rgb+flow"}
    assert result.top1["joint"] == {} and result.top1["mean"] == {}
    folders = [path.name for path in chosen.out.iterdir() if path.is_dir()]
    assert {name.rpartition("-")[0] for name in folders} == {"audio-seed0", "rgb+flow-seed0"} and len(folders) == 2
    assert result.shapley == {} and result.differences == []
    assert result.best_single == "audio"


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
    assert list(found.top1["trained"]) == trained
    assert (set(found.shapley), found.best_single, found.differences) == (values, best, [])
    assert {path.name for path in tmp_path.iterdir()} == {*FILES}


@pytest.mark.slow
def test_all_seven_subsets_read_by_workers_though_few_videos_are_judged(tmp_path):
    """Few: they are read by the program itself, whose OpenCV then runs threads when the next run starts workers."""
    store = make_store(tmp_path / "s.h5", three_bit(24, frames=10))
    machine = replace(CPU, workers=1)
    settings = AblateSettings(data=store.path, out=tmp_path / "out", views=1, recipe=ONCE, machine=machine)
    result = ablate(settings)
    assert list(result.top1["trained"]) == [subset_name(subset) for subset in subsets(tuple(STREAMS))]
    assert "validation videos" in result.which
    assert len(result.top1["joint"]) == 7
    assert [len(result.top1[how]) for how in ("mean", "weighted", "stacked")] == [4, 4, 4]
    assert list(result.shapley["joint"]) == list(STREAMS)
    controls = [row.control for row in result.differences]
    assert len(controls) == 7 and "model trained on rgb+flow" in controls
    assert "favours" in result.chosen_on and "other groups" in result.fitted_on


def test_a_setting_that_makes_no_sense_is_named(settings, tmp_path):
    for name, wrong in (
        ("--seeds", {"seeds": 0}),
        ("smell", {"subsets": ("rgb+smell",)}),
        ("flow", {"subsets": ("flow",)}),
        (r"rgb\+flow", {"subsets": ("rgb", "rgb+flow")}),
        ("none", {"recipe": replace(ONCE, model=replace(ONCE.model, head="none"))}),
        ("audio=lstm", {"recipe": replace(ONCE, model=replace(ONCE.model, towers=("audio=lstm",)))}),
        ("flow", {"init": ("flow=w.pt",)}),
        (r"none\.pt", {"init": ("none.pt",)}),
        ("--bootstrap-by|class", {"bootstrap_by": "class"}),
    ):
        with pytest.raises(UserError, match=name):
            ablate(replace(settings, out=tmp_path / "out", **wrong))
        assert not (tmp_path / "out").exists()


def test_a_stream_that_no_training_video_has_is_named_before_anything_is_trained(settings, tmp_path):
    mute = {"streams": ("rgb", "flow")}
    specs = [*three_bit(16, split="train", **mute), *three_bit(16, prefix="test", split="test")]
    store = make_store(tmp_path / "mute.h5", specs)
    asked = replace(settings, data=store.path, streams="rgb,flow,audio", out=tmp_path / "new" / "out", ceilings=None)
    with pytest.raises(UserError, match=r"no training video of .*mute\.h5 has audio.*--streams rgb,flow"):
        ablate(asked)
    assert [path.name for path in tmp_path.iterdir()] == ["mute.h5"]


def test_an_ablation_that_fails_leaves_no_empty_folder(settings, tmp_path):
    one_class = make_store(tmp_path / "s.h5", [replace(spec, label="a") for spec in three_bit(8)])
    with pytest.raises(UserError, match="one class"):
        ablate(replace(settings, data=one_class.path, out=tmp_path / "new" / "out", ceilings=None))
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


def test_ceilings_that_are_none_are_an_error(settings, tmp_path):
    for text in ("[0.25]", "{", '{"rgb": "high"}', '{"rgb": null}'):
        (tmp_path / "ceilings.json").write_text(text)
        with pytest.raises(UserError, match=r"ceilings\.json"):
            ablate(replace(settings, ceilings=tmp_path / "ceilings.json"))


def test_the_command_line_answers_wrong_input_with_one_line(tmp_path):
    assert_one_line_error(run("tasks.ablate", "--data", tmp_path / "none.h5"), "none.h5")
