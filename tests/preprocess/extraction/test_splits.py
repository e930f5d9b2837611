"""Splits by patterns of paths."""

from dataclasses import replace

import pytest

from preprocess.common.errors import UserError
from preprocess.extraction.sources import from_csv, from_folder, with_splits
from tests.support.cases import case


def splits(catalog) -> dict[str, str | None]:
    return {source.path: source.split for source in catalog.sources}


CLIPS = [f"{name}/v_{name}_g{group:02d}_c01.avi" for name in ("Run", "Jump") for group in (1, 7, 8, 12, 13)]


def test_patterns_of_paths_split_videos_and_what_none_matches_trains(folder):
    found = from_folder(folder(*CLIPS, "Run/other.mp4"))
    expected = {"Run/other.mp4": "train"}
    for name in ("Run", "Jump"):
        for group, split in {"01": "test", "07": "test", "08": "train", "12": "val", "13": "val"}.items():
            expected[f"{name}/v_{name}_g{group}_c01.avi"] = split
    given = with_splits(found, val=["*_g1[23]_*"], test=["*_g0[1-6]_*", "*_g07_*"])
    assert splits(given) == expected
    assert [replace(source, split=None) for source in given.sources] == found.sources
    assert given.notes == found.notes


def test_without_patterns_there_is_no_split(folder):
    found = from_folder(folder(*CLIPS))
    assert with_splits(found, val=[], test=[]) == found
    assert set(splits(found).values()) == {None}


def test_patterns_of_one_split_leave_the_others_to_training(folder):
    found = from_folder(folder("test/run/a.mp4", "train/run/b.mp4", "Test/run/c.mp4"))
    assert splits(with_splits(found, val=[], test=["test/*"])) == {
        "Test/run/c.mp4": "train",
        "test/run/a.mp4": "test",
        "train/run/b.mp4": "train",
    }
    assert splits(with_splits(found, val=["*.mp4"], test=[])) == dict.fromkeys(splits(found), "val")


def test_a_video_may_match_several_patterns_of_one_split(folder):
    found = with_splits(from_folder(folder("run/a.mp4", "run/b.mp4")), val=["run/a*", "*/a.mp4"], test=[])
    assert splits(found) == {"run/a.mp4": "val", "run/b.mp4": "train"}


def test_patterns_split_what_a_label_file_without_a_split_column_names(folder, table):
    root = folder("a.mp4", "deep/b.mp4", "c.mp4")
    found = from_csv(root, table("path,label,split\na.mp4,x,\ndeep/b.mp4,y,\n"))
    assert splits(with_splits(found, val=[], test=["deep/*"])) == {"a.mp4": "train", "deep/b.mp4": "test"}


def test_a_fault_in_the_patterns_is_one_clear_line(folder):
    for val, test, says in (
        ((), ("*_g0[1-7]_*", "*_g99_*"), r"--test .*\*_g99_\*"),
        (("v_Run*",), (), r"--val .*v_Run\*"),
        (("run/*",), (), r"--val .*run/\*"),
        (("*_g1?_*",), ("*2_c01.avi",), r"Jump/v_Jump_g12_c01\.avi.*--val.*--test"),
    ):
        with case((val, test, says)):
            with pytest.raises(UserError, match=says) as caught:
                with_splits(from_folder(folder(*CLIPS)), val=val, test=test)
            assert "\n" not in str(caught.value)


def test_patterns_beside_a_split_column_are_one_clear_line(folder, table):
    found = from_csv(folder("a.mp4", "b.mp4"), table("path,label,split\na.mp4,x,train\nb.mp4,x,train\n"))
    with pytest.raises(UserError, match=r"--val.*--test") as caught:
        with_splits(found, val=[], test=["b*"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("val", "test", "says"),
    [
        (
            (),
            ("*_c02.*",),
            r"v_Run_g01 .*_c01\.avi .*_c02\.avi",
        ),
        (("*_c01.*",), ("*_c02.*",), r"v_Run_g01 .*_c01\.avi .*_c02\.avi"),
    ],
)
def test_a_group_that_the_patterns_divide_is_named_with_two_of_its_videos(folder, val, test, says):
    """Clips of one video on both sides would be a leak."""
    found = from_folder(folder("run/v_Run_g01_c01.avi", "run/v_Run_g01_c02.avi", "run/a.mp4", "run/b.mp4"))
    with pytest.raises(UserError, match=says) as caught:
        with_splits(found, val=val, test=test)
    assert "\n" not in str(caught.value)
    assert splits(with_splits(found, val=["*_g01_*"], test=["*/b.*"]))["run/a.mp4"] == "train"


def test_groups_of_the_label_file_are_not_divided_either(folder, table):
    text = "path,label,group\na.mp4,x,camera 3\nb.mp4,y,camera 3\nc.mp4,x,\nd.mp4,x,\n"
    found = from_csv(folder("a.mp4", "b.mp4", "c.mp4", "d.mp4"), table(text))
    with pytest.raises(UserError, match=r"camera 3 .*a\.mp4.*b\.mp4"):
        with_splits(found, val=[], test=["b*"])
    assert splits(with_splits(found, val=["c*"], test=["[ab]*"])) == {
        "a.mp4": "test",
        "b.mp4": "test",
        "c.mp4": "val",
        "d.mp4": "train",
    }
