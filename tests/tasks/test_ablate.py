"""python -m tasks.ablate"""

import csv
import json
import statistics
from dataclasses import replace
from itertools import count

import pytest
import torch

from fusion.checkpoint import Checkpoints
from preprocess.errors import UserError
from streams import STREAMS, subset_name, subsets
from tasks.ablate import METHODS, AblateSettings, ablate, mean_and_deviation, table
from tasks.evaluate import ask
from tasks.run import load_run
from tests.preprocess.commands import assert_one_line_error, run
from tests.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY

ONCE = replace(TINY, epochs=1)
PAIR = ("rgb", "audio")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Videos to train on, and sixteen test videos of which some lack sound."""
    test = three_bit(16, prefix="test", split="test", frames=10)
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


def answers_of(settings, store, subset: tuple[str, ...], seed: int, names):
    loaded = load_run(settings.out / f"{subset_name(subset)}-seed{seed}", device="cpu")
    videos = [video for video in store.videos if video.split == "test"]
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
    assert set(result["top1"]["joint"]) == set(PAIR)
    for seed in range(2):
        answers, labels = answers_of(settings, store, PAIR, seed, [("rgb",), ("audio",)])
        for name in PAIR:
            expected = top1(answers.probabilities(name), answers.answered(name), labels)
            assert result["top1"]["joint"][name][seed] == pytest.approx(expected)


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


def test_the_best_single_stream_is_the_best_on_average(result):
    means = {name: statistics.mean(result["top1"]["trained"][name]) for name in PAIR}
    assert means[result["best_single"]] == max(means.values())


def test_the_tables_and_the_figure_say_what_was_found(result, settings):
    names = {"table.md", "table.csv", "ablation.png", "ablation.json"}
    assert names <= {path.name for path in settings.out.iterdir()}
    assert (settings.out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((settings.out / "ablation.json").read_text()) == result
    with open(settings.out / "table.csv", newline="") as file:
        rows = {(row["streams"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 + 2 + 1
    for (name, method), row in rows.items():
        values = result["top1"][method][name]
        assert float(row["top1_mean"]) == pytest.approx(statistics.mean(values))
        assert float(row["top1_std"]) == pytest.approx(statistics.stdev(values))
        assert [float(value) for value in row["top1_of_each_seed"].split()] == values
        assert float(row["ceiling"]) == result["ceilings"][name]
    lines = (settings.out / "table.md").read_text().splitlines()
    for name in ("rgb", "audio", "rgb+audio"):
        (line,) = (line for line in lines if line.startswith(f"| {name} |"))
        values = result["top1"]["trained"][name]
        assert f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}" in line
    assert any(line.startswith(f"| best single: {result['best_single']} |") for line in lines)


def test_the_table_has_a_row_a_subset_and_a_column_a_method(result):
    head, rows = table(result)
    assert head == ["streams", *METHODS.values(), "ceiling"]
    assert [row[0] for row in rows[:3]] == ["rgb", "audio", "rgb+audio"]
    assert all(len(row) == len(head) for row in rows)


def test_the_deviation_is_the_samples_own():
    values = [0.5, 0.7, 0.75]
    assert mean_and_deviation(values) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert mean_and_deviation([0.4]) == pytest.approx((0.4, 0.0))


def weights(folder) -> dict:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/*.safetensors")}


def test_the_same_command_again_trains_nothing_and_finds_the_same(result, settings):
    before = weights(settings.out)
    assert len(before) == 2 * 3 * 2
    assert ablate(settings) == result
    assert weights(settings.out) == before


def test_another_recipe_is_refused(result, settings):
    with pytest.raises(UserError, match=r"rgb-seed0 was trained with --lr \S+: .*--out"):
        ablate(replace(settings, recipe=replace(ONCE, lr=0.01)))


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
    assert {path.name for path in chosen.out.iterdir() if path.is_dir()} == {"audio-seed0", "rgb+flow-seed0"}


@pytest.mark.slow
def test_all_seven_subsets_read_by_workers_though_few_videos_are_judged(tmp_path):
    """Few: they are read by the program itself, whose OpenCV then runs threads when the next run starts workers."""
    store = make_store(tmp_path / "s.h5", three_bit(24, frames=10))
    machine = replace(CPU, workers=1)
    settings = AblateSettings(data=store.path, out=tmp_path / "out", views=1, recipe=ONCE, machine=machine)
    result = ablate(settings)
    assert list(result["top1"]["trained"]) == [subset_name(subset) for subset in subsets(tuple(STREAMS))]
    assert "validation videos" in result["which"]
    assert len(result["top1"]["joint"]) == 6 and len(result["top1"]["mean"]) == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seeds": 0}, "--seeds"),
        ({"subsets": ("rgb+smell",)}, "unknown stream 'smell'"),
        ({"subsets": ("flow",)}, "flow, which is no subset of rgb,audio"),
        ({"subsets": ("rgb", "rgb+flow")}, "rgb\\+flow"),
        ({"recipe": replace(ONCE, model=replace(ONCE.model, head="tail"))}, "unknown head 'tail'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings, tmp_path, wrong, says):
    with pytest.raises(UserError, match=says):
        ablate(replace(settings, out=tmp_path / "out", **wrong))


@pytest.mark.parametrize("text", ["[0.25]", "{", '{"rgb": "high"}', '{"rgb": null}'])
def test_ceilings_that_are_none_are_an_error(settings, tmp_path, text):
    (tmp_path / "ceilings.json").write_text(text)
    with pytest.raises(UserError, match=r"ceilings\.json is no JSON object"):
        ablate(replace(settings, ceilings=tmp_path / "ceilings.json"))


def test_the_command_line_answers_wrong_input_with_one_line(tmp_path):
    assert_one_line_error(run("tasks.ablate", "--data", tmp_path / "none.h5"), "no store", "none.h5")
