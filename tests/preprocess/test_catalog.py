"""Which videos there are, and their labels, groups and splits. No video is opened for that."""

import os
from dataclasses import replace

import pytest

from preprocess.catalog import from_csv, from_folder, group_from_name, with_splits
from preprocess.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A function that makes empty files below videos/ and gives that folder."""

    def make(*paths: str):
        root = tmp_path / "videos"
        root.mkdir(exist_ok=True)
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        return root

    return make


@pytest.fixture
def table(tmp_path):
    """A function that writes a label file."""

    def write(text: str | bytes):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def labels(catalog) -> dict[str, str | None]:
    return {source.path: source.label for source in catalog.sources}


def test_the_first_folder_is_the_class_at_any_depth(folder):
    found = from_folder(folder("run/a.mp4", "run/2019/may/b.mkv", "jump/c.AVI"))
    assert labels(found) == {"jump/c.AVI": "jump", "run/2019/may/b.mkv": "run", "run/a.mp4": "run"}
    assert [source.path for source in found.sources] == sorted(source.path for source in found.sources)
    assert found.notes == []


def test_the_order_does_not_depend_on_the_file_system(folder):
    paths = [f"{c}/{n}.mp4" for c in "zayb" for n in (10, 9, 1)]
    assert [source.path for source in from_folder(folder(*paths)).sources] == sorted(paths)


def test_two_videos_of_one_stem_are_two_videos(folder):
    found = from_folder(folder("run/a.mp4", "jump/a.mp4", "jump/a.mkv"))
    assert labels(found) == {"jump/a.mkv": "jump", "jump/a.mp4": "jump", "run/a.mp4": "run"}


def test_videos_directly_in_the_folder_have_no_label_and_the_user_hears_of_it(folder):
    found = from_folder(folder("a.mp4", "run/b.mp4"))
    assert labels(found) == {"a.mp4": None, "run/b.mp4": "run"}
    assert any("no label" in note and "1 " in note for note in found.notes)


def test_hidden_files_are_passed_over_silently_and_other_files_with_a_note(folder):
    found = from_folder(folder("run/a.mp4", "run/._a.mp4", ".cache/b.mp4", "run/readme.txt", "run/x", "run/y.TXT"))
    assert labels(found) == {"run/a.mp4": "run"}
    (note,) = found.notes
    assert "3 files" in note and ".txt ×2" in note and "no suffix ×1" in note


@pytest.mark.parametrize("paths", [(), ("run/readme.txt",), ("run/.hidden.mp4",)])
def test_a_folder_without_videos_is_an_error_that_says_where_to_put_them(folder, paths):
    root = folder(*paths)
    with pytest.raises(UserError, match=r"no videos in .*videos.*<class>/<video>.*--labels"):
        from_folder(root)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder beside videos/ with one file."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    (path / "b.mp4").touch()
    return path


def refusals(catalog) -> dict[str, str | None]:
    return {source.path: source.refused for source in catalog.sources}


def test_links_to_folders_are_followed_once_and_never_in_circles(folder, elsewhere):
    root = folder("run/a.mp4")
    (root / "jump").symlink_to(elsewhere)
    (root / "run" / "up").symlink_to(root)
    (elsewhere / "back").symlink_to(root)
    found = from_folder(root, follow_links=True)
    assert labels(found) == {"jump/b.mp4": "jump", "run/a.mp4": "run"}
    assert set(refusals(found).values()) == {None}


def test_a_linked_folder_outside_is_passed_over_with_a_note(folder, elsewhere):
    root = folder("run/a.mp4")
    (root / "jump").symlink_to(elsewhere)
    found = from_folder(root)
    assert labels(found) == {"run/a.mp4": "run"}
    (note,) = found.notes
    assert "1 linked folders that lead out" in note and "--follow-links" in note
    (root / "run" / "a.mp4").unlink()
    with pytest.raises(UserError, match=r"no videos in .*1 linked folders.*--follow-links"):
        from_folder(root)


def test_a_linked_file_outside_is_refused_and_one_inside_is_not(folder, elsewhere):
    root = folder("run/a.mp4", "run/deep/c.mp4")
    (root / "run" / "out.mp4").symlink_to(elsewhere / "b.mp4")
    (root / "run" / "dead.mp4").symlink_to(elsewhere / "nothing.mp4")
    (root / "run" / "chain.mp4").symlink_to("out.mp4")
    (root / "jump").symlink_to(root / "run" / "deep")
    (root / "run" / "in.mp4").symlink_to(root / "run" / "deep" / "c.mp4")
    found = refusals(from_folder(root))
    assert {path for path, refused in found.items() if refused} == {"run/out.mp4", "run/dead.mp4", "run/chain.mp4"}
    assert found["run/out.mp4"] == "link: leads out of the videos' folder (--follow-links takes it)"
    assert "run/in.mp4" in found and ("jump/c.mp4" in found) != ("run/deep/c.mp4" in found)
    assert set(refusals(from_folder(root, follow_links=True)).values()) == {None}


def test_a_folder_that_is_itself_reached_through_a_link_is_inside(folder, tmp_path):
    folder("run/a.mp4")
    (tmp_path / "alias").symlink_to(tmp_path / "videos")
    assert refusals(from_folder(tmp_path / "alias")) == {"run/a.mp4": None}


def test_links_that_the_label_file_names_are_refused_as_well(folder, elsewhere, table):
    root = folder("a.mp4")
    (root / "out.mp4").symlink_to(elsewhere / "b.mp4")
    (root / "way").symlink_to(elsewhere)
    (elsewhere / "further.mp4").symlink_to(root / "a.mp4")
    paths = ["a.mp4", "out.mp4", "way/b.mp4", "way/../videos/a.mp4", "../elsewhere/b.mp4", elsewhere / "further.mp4"]
    text = "path,label\n" + "".join(f"{path},run\n" for path in paths[:3] + paths[4:])
    refused = {path for path, why in refusals(from_csv(root, table(text))).items() if why}
    assert refused == {"out.mp4", "way/b.mp4", str(elsewhere / "further.mp4").lstrip("/")}
    assert set(refusals(from_csv(root, table(text), follow_links=True)).values()) == {None}


def test_two_points_after_a_link_do_not_hide_where_it_leads(folder, elsewhere, table):
    """The system goes through the link first and up from there: not to the file that the path seems to name."""
    root = folder("secret.mp4")
    (elsewhere / "deep").mkdir()
    (elsewhere / "secret.mp4").touch()
    (root / "way").symlink_to(elsewhere / "deep")
    (source,) = from_csv(root, table("path,label\nway/../secret.mp4,run\n")).sources
    assert source.refused


def test_a_pipe_that_is_called_a_video_is_listed_so_that_its_reason_is_said(folder):
    root = folder("run/a.mp4")
    os.mkfifo(root / "run" / "pipe.mp4")
    os.mkfifo(root / "run" / "pipe")
    assert labels(from_folder(root)) == {"run/a.mp4": "run", "run/pipe.mp4": "run"}


@pytest.mark.parametrize(
    "text", ["path,label\na.mp4,r\0un\n", "path,label\na\0.mp4,run\n", "path,label,group\na.mp4,run,\0\n"]
)
def test_a_nul_byte_in_the_label_file_is_one_clear_line(folder, table, text):
    with pytest.raises(UserError, match=r"labels\.csv.*NUL") as caught:
        from_csv(folder("a.mp4"), table(text))
    assert "\n" not in str(caught.value)


def test_a_dead_link_is_listed_so_that_its_loss_is_seen(folder):
    root = folder("run/a.mp4")
    (root / "run" / "gone.mp4").symlink_to(root / "nowhere.mp4")
    assert "run/gone.mp4" in labels(from_folder(root))


def test_names_may_hold_anything_that_a_file_system_allows(folder):
    names = [
        "run/a b.mp4",
        "run/li\nne.mp4",
        "caf\u00e9/\u7535\u5f71.mp4",
        os.fsdecode(b"run/\xff\xfe.mp4"),
        "run/a,b'\"$.mp4",
        "run/-i.mp4",
        "run/concat:x.mp4",
        "http:/example.mp4",
    ]
    assert set(labels(from_folder(folder(*names)))) == set(names)


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("Archery/v_Archery_g08_c01.avi", "v_Archery_g08"),
        ("v_Archery_g08_c12.mp4", "v_Archery_g08"),
        ("x/v_Two_Words_g25_c07.mp4", "v_Two_Words_g25"),
        ("x/archery_g08_c01.mp4", None),
        ("x/v_Archery_g08_c01_copy.mp4", None),
        ("v_Archery_g08_c01/clip.mp4", None),
    ],
)
def test_a_group_is_read_from_names_like_ucf101s(path, group):
    assert group_from_name(path) == group


def test_a_label_file_names_labels_splits_and_groups(folder, table):
    root = folder("a.mp4", "sub/b.mp4", "v_Run_g01_c02.mp4")
    found = from_csv(
        root,
        table("path,label,split,group\nsub/b.mp4,jump,Test,g9\na.mp4,run,training,\nv_Run_g01_c02.mp4,run,val,\n"),
    )
    rows = [(source.path, source.label, source.split, source.group) for source in found.sources]
    assert rows == [
        ("a.mp4", "run", "train", None),
        ("sub/b.mp4", "jump", "test", "g9"),
        ("v_Run_g01_c02.mp4", "run", "val", "v_Run_g01"),
    ]
    assert all(os.path.isfile(source.file) for source in found.sources)


@pytest.mark.parametrize(
    "text",
    [
        "label,path\nrun,a.mp4\n",
        "Path , LABEL\na.mp4 , run\n",
        "\ufeffpath,label\r\na.mp4,run\r\n",
        'path,label,remark\n"a.mp4","run","a, b"\n',
        "path,label\n./a.mp4,run\n",
        "path,label\na.mp4,run\n\n",
        "path,label\na.mp4,run,,\n",
    ],
    ids=["order", "case and spaces", "excel", "quotes and more columns", "dot", "empty line", "more commas"],
)
def test_a_label_file_may_look_as_spreadsheets_write_it(folder, table, text):
    assert labels(from_csv(folder("a.mp4"), table(text))) == {"a.mp4": "run"}


def test_only_the_videos_that_the_label_file_names_are_used(folder, table):
    assert labels(from_csv(folder("a.mp4", "run/b.mp4"), table("path,label\na.mp4,x\n"))) == {"a.mp4": "x"}


def test_an_absolute_path_below_the_folder_is_the_relative_one(folder, table):
    root = folder("sub/a.mp4")
    assert labels(from_csv(root, table(f"path,label\n{root / 'sub/a.mp4'},run\n"))) == {"sub/a.mp4": "run"}


def test_a_video_may_lie_outside_the_folder(folder, table, tmp_path):
    root = folder("a.mp4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.mp4").touch()
    for path in (tmp_path / "other" / "b.mp4", "../other/b.mp4"):
        (source,) = from_csv(root, table(f"path,label\n{path},run\n")).sources
        assert os.path.samefile(source.file, tmp_path / "other" / "b.mp4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\na.mp4,run\ngone.mp4,run\n", r"labels\.csv line 3: there is no file gone\.mp4"),
        ("path,label\ngone.mp4,run\nlost.mp4,run\n", r"line 2: .*gone\.mp4.*2 lines"),
        ("path,label\na.mp4,\n", r"line 2: no label for a\.mp4"),
        ("path,label\na.mp4\n", r"line 2: no label for a\.mp4"),
        ("path,label\n,run\n", r"line 2: the path is empty"),
        ("a.mp4,run\n", r"first line must name the columns path,label"),
        ("path;label\na.mp4;run\n", r"first line must name the columns"),
        ("", r"it says: nothing"),
        ("path,label\n", r"names no videos"),
        ("path,label\na.mp4,run\na.mp4,jump\n", r"line 3: a\.mp4 was named in line 2 already"),
        ("path,label\na.mp4,run\n./a.mp4,run\n", r"line 3: .*named in line 2"),
        ("path,label,split\na.mp4,run,dev\n", r"line 2: unknown split 'dev': use train, val or test"),
        ("path,label,split\na.mp4,run,train\nb.mp4,run,\n", r"line 3: the split is empty"),
        ("path,label\n.,run\n", r"line 2: there is no file"),
    ],
)
def test_a_fault_in_the_label_file_is_one_clear_line(folder, table, text, says):
    with pytest.raises(UserError, match=says) as caught:
        from_csv(folder("a.mp4", "b.mp4"), table(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [bytes(300_000), os.urandom(5000), b"\x89HDF\r\n\x1a\n" + bytes(10_000), b"x" * 200_000]
)
def test_a_label_file_that_is_no_csv_is_one_clear_line(folder, table, content):
    with pytest.raises(UserError, match=r"labels\.csv"):
        from_csv(folder("a.mp4"), table(content))


def test_a_field_that_is_too_long_for_csv_is_one_clear_line(folder, table):
    with pytest.raises(UserError, match=r"labels\.csv"):
        from_csv(folder("a.mp4"), table("path,label\na.mp4," + "x" * 200_000))


def test_labels_and_paths_may_be_in_another_encoding(folder, table):
    name = os.fsdecode(b"caf\xe9.mp4")
    found = from_csv(folder(name), table(b"path,label\ncaf\xe9.mp4,caf\xe9\n"))
    assert labels(found) == {name: os.fsdecode(b"caf\xe9")}


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


@pytest.mark.parametrize(
    ("val", "test", "says"),
    [
        ((), ("*_g0[1-7]_*", "*_g99_*"), r"--test '\*_g99_\*' matches no video: .*paths like Jump/v_Jump_g01_c01\.avi"),
        (("v_Run*",), (), r"--val 'v_Run\*' matches no video"),
        (("run/*",), (), r"--val 'run/\*' matches no video"),
        (("*_g1?_*",), ("*2_c01.avi",), r"^Jump/v_Jump_g12_c01\.avi matches patterns of --val and of --test"),
    ],
)
def test_a_fault_in_the_patterns_is_one_clear_line(folder, val, test, says):
    with pytest.raises(UserError, match=says) as caught:
        with_splits(from_folder(folder(*CLIPS)), val=val, test=test)
    assert "\n" not in str(caught.value)


def test_patterns_beside_a_split_column_are_one_clear_line(folder, table):
    found = from_csv(folder("a.mp4", "b.mp4"), table("path,label,split\na.mp4,x,train\nb.mp4,x,train\n"))
    with pytest.raises(UserError, match=r"name a split already: leave out --val and --test") as caught:
        with_splits(found, val=[], test=["b*"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("val", "test", "says"),
    [
        (
            (),
            ("*_c02.*",),
            r"group v_Run_g01 is divided: run/.*_c01\.avi is train, run/.*_c02\.avi is test",
        ),
        (("*_c01.*",), ("*_c02.*",), r"group v_Run_g01 is divided: .*c01\.avi is val, .*c02\.avi is test"),
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
    with pytest.raises(UserError, match=r"group camera 3 is divided: a\.mp4 is train, b\.mp4 is test"):
        with_splits(found, val=[], test=["b*"])
    assert splits(with_splits(found, val=["c*"], test=["[ab]*"])) == {
        "a.mp4": "test",
        "b.mp4": "test",
        "c.mp4": "val",
        "d.mp4": "train",
    }
