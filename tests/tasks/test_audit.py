"""python -m tasks.audit"""

from dataclasses import replace

import numpy as np
import pytest

from preprocess.common.errors import UserError
from streams.split import split_videos
from tasks.audit import Audit, audit_run, audit_split, audit_table, main, print_audit, warnings
from tasks.run import choose_videos, load_run
from tests.support.commands import assert_one_line_error, run
from tests.support.runs import run_here
from tests.support.stores import Spec, make_store

KINDS = ["presence", "length", "size, rate, container", "all of these"]


def videos(count: int, *, seed: int = 0, **of_class) -> list[Spec]:
    """Videos of two classes; two thirds train, one third tests. `of_class` gives each class what its videos are."""
    rng = np.random.default_rng(seed)
    specs = []
    for number in range(count):
        row = int(rng.integers(2))
        split = "test" if number % 3 == 0 else "train"
        facts = {name: values[row] for name, values in of_class.items()}
        specs.append(Spec(f"{number:03d}.mp4", label="ab"[row], split=split, **{"frames": 4} | facts))
    return specs


def audited(path, specs: list[Spec]) -> Audit:
    store = make_store(path / "s.h5", specs)
    return audit_split(store, split_videos(store.videos, seed=0))


def test_labels_that_follow_the_presence_of_sound_are_told_without_fail_and_warned_of(tmp_path, capsys):
    result = audited(tmp_path, videos(90, streams=(("rgb", "audio"), ("rgb",))))
    assert result.shortcuts["presence"].top1 == result.shortcuts["all of these"].top1 == 1
    assert result.shortcuts["presence"].above
    print_audit(result)
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if line.startswith("warning"))
    assert "presence" in line and "100.0%" in line and f"{result.prior:.1%}" in line


@pytest.mark.parametrize(
    ("of_class", "kind"),
    [
        ({"frames": (4, 9)}, "length"),
        ({"source": ({"fps": 25.0}, {"fps": 30.0})}, "size, rate, container"),
        ({"source": ({"container": "avi"}, {"container": "mp4"})}, "size, rate, container"),
        ({"rgb": tuple(np.zeros((4, *size, 3), np.uint8) for size in ((36, 48), (36, 64)))}, "size, rate, container"),
    ],
)
def test_labels_that_follow_another_fact_are_told_by_it_alone(tmp_path, of_class, kind):
    shortcuts = audited(tmp_path, videos(60, **of_class)).shortcuts
    assert list(shortcuts) == KINDS
    assert {name for name in KINDS[:3] if shortcuts[name].above} == {kind}
    assert shortcuts[kind].top1 == shortcuts["all of these"].top1 == 1


def test_facts_that_have_nothing_to_do_with_the_labels_stay_near_the_prior(tmp_path):
    rng = np.random.default_rng(10)
    specs = [
        replace(spec, frames=int(rng.integers(3, 9)), streams=("rgb", "audio")[: rng.integers(1, 3)])
        for spec in videos(240)
    ]
    result = audited(tmp_path, specs)
    assert warnings(result) == []
    for found in result.shortcuts.values():
        assert found.top1 == pytest.approx(result.prior, abs=0.2)  # over three standard deviations of 80 videos


def test_the_prior_is_the_share_of_the_most_frequent_training_class_among_the_judged(tmp_path):
    labels = {"train": "aaab", "test": "abbbb"}
    specs = [
        Spec(f"{split}{k}.mp4", label=label, split=split, frames=3)
        for split, text in labels.items()
        for k, label in enumerate(text)
    ]
    specs += [Spec("val.mp4", label="b", split="val", frames=3)]
    result = audited(tmp_path, specs)
    assert result.prior == pytest.approx(1 / 5)
    assert result.videos == {"train": 4, "val": 1, "test": 5}


def test_a_file_on_both_sides_is_named_and_not_asked(tmp_path):
    specs = videos(30)
    assert (specs[0].split, specs[1].split) == ("test", "train")
    specs[0] = replace(specs[0], content=specs[1].path)
    result = audited(tmp_path, specs)
    (leak,) = result.identical
    assert {*leak.paths} == {"000.mp4", "001.mp4"} and "test" in leak.sides
    assert result.judged == 9 or "train" not in leak.sides
    (row,) = (row for row in audit_table(result)[1] if row[0] == "identical files on both sides")
    assert "000.mp4" in row[2] and "001.mp4" in row[2] and ", test)" in row[2]
    assert [line for line in warnings(result) if "1 file" in line]


def test_a_group_on_both_sides_is_named(tmp_path):
    specs = videos(30)
    specs = [replace(spec, group=f"camera {k}") for k, spec in enumerate(specs)]
    specs[0] = replace(specs[0], group="camera 1")
    result = audited(tmp_path, specs)
    assert [leak.key for leak in result.groups] == ["camera 1"]
    (row,) = (row for row in audit_table(result)[1] if row[0] == "groups on both sides")
    assert row[2].startswith("camera 1 (") and row[2].endswith(", test)")
    assert [line for line in warnings(result) if "1 group" in line]


def test_without_test_videos_the_validation_videos_are_judged_and_our_split_does_not_leak(tmp_path):
    specs = [replace(spec, split=None, group=f"g{k // 3}") for k, spec in enumerate(videos(60))]
    specs[4] = replace(specs[4], content=specs[40].path)
    result = audited(tmp_path, specs)
    assert list(result.videos) == ["train", "val"] and sum(result.videos.values()) == 60
    assert result.judged == result.videos["val"]
    assert result.groups == result.identical == []


def test_a_run_is_audited_with_the_videos_of_the_store_that_it_is_judged_on(run_folder, toy, tmp_path):
    loaded = load_run(run_folder, device="cpu")
    by_path = {video.path: video for video in toy.videos}
    trained = [by_path[path] for path in loaded.split.train]
    specs = [
        Spec("copy.mp4", label=trained[0].label, content=trained[0].content, frames=10),
        Spec("not judged.mp4", label=trained[1].label, content=trained[1].content, split="test", frames=10),
        *(Spec(f"{k}.mp4", label=f"{k:03b}", group="toys", frames=10) for k in range(8)),
    ]
    other = make_store(tmp_path / "other.h5", specs)
    judged, _ = choose_videos(loaded, other, "auto")
    result = audit_run(loaded, other, judged)
    assert result.videos == {"train": len(trained), "val": len(loaded.split.val), "judged": 9}
    assert result.judged == 8
    assert [leak.paths[-1] for leak in result.identical] == ["copy.mp4"]
    own, _ = choose_videos(loaded, toy, "auto")
    assert list(audit_run(loaded, toy, own).videos) == ["train", "judged"]


def test_a_run_whose_store_is_gone_cannot_be_audited(run_folder, tmp_path):
    loaded = load_run(run_folder, device="cpu")
    loaded = replace(loaded, settings=replace(loaded.settings, data=tmp_path / "gone.h5"))
    other = make_store(tmp_path / "other.h5", [Spec("a.mp4", label="000", frames=10)])
    with pytest.raises(UserError, match=r"gone\.h5"):
        audit_run(loaded, other, list(other.videos))


def test_the_command_prints_the_table_and_answers_wrong_input_with_one_line(tmp_path, monkeypatch, capsys):
    store = make_store(tmp_path / "s.h5", videos(60, streams=(("rgb", "audio"), ("rgb",))))
    done = run("tasks.audit", "--data", store.path)
    assert done.returncode == 0, done.stderr
    assert "presence" in done.stdout and "warning: " in done.stdout
    for options, says in (
        (["--data", tmp_path / "none.h5"], ("none.h5",)),
        (["--data", store.path, "--split-seed", -1], ("--split-seed",)),
    ):
        assert_one_line_error(run_here(monkeypatch, capsys, *options, main=main), *says)
