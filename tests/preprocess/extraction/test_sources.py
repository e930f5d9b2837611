"""Which videos there are, and their labels and groups. No video is opened for that."""

import os

import pytest

from preprocess.common.errors import UserError
from preprocess.extraction.sources import from_csv, from_folder, group_from_name, with_splits


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
    assert any("1 " in note for note in found.notes)


def test_hidden_files_are_passed_over_silently_and_other_files_with_a_note(folder):
    found = from_folder(folder("run/a.mp4", "run/._a.mp4", ".cache/b.mp4", "run/readme.txt", "run/x", "run/y.TXT"))
    assert labels(found) == {"run/a.mp4": "run"}
    (note,) = found.notes
    assert ".txt" in note


def test_a_folder_without_videos_is_an_error_that_names_it(folder):
    for paths in ((), ("run/readme.txt",), ("run/.hidden.mp4",)):
        with pytest.raises(UserError, match=r"videos.*--labels"):
            from_folder(folder(*paths))


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
    assert "--follow-links" in note
    (root / "run" / "a.mp4").unlink()
    with pytest.raises(UserError, match="--follow-links"):
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
    assert found["run/out.mp4"].startswith("link: ")
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


def test_a_group_is_read_from_names_like_ucf101s():
    for path, group in (
        ("Archery/v_Archery_g08_c01.avi", "v_Archery_g08"),
        ("v_Archery_g08_c12.mp4", "v_Archery_g08"),
        ("x/v_Two_Words_g25_c07.mp4", "v_Two_Words_g25"),
        ("x/archery_g08_c01.mp4", None),
        ("x/v_Archery_g08_c01_copy.mp4", None),
        ("v_Archery_g08_c01/clip.mp4", None),
    ):
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


def test_a_label_file_may_look_as_spreadsheets_write_it(folder, table):
    root = folder("a.mp4")
    for text in (
        "label,path\nrun,a.mp4\n",
        "Path , LABEL\na.mp4 , run\n",
        "\ufeffpath,label\r\na.mp4,run\r\n",
        'path,label,remark\n"a.mp4","run","a, b"\n',
        "path,label\n./a.mp4,run\n",
        "path,label\na.mp4,run\n\n",
        "path,label\na.mp4,run,,\n",
    ):
        assert labels(from_csv(root, table(text))) == {"a.mp4": "run"}


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


FAULTS = {  # what stands in the label file → the line and the name that are told
    "path,label\na.mp4,run\ngone.mp4,run\n": "line 3.*gone",
    "path,label\ngone.mp4,run\nlost.mp4,run\n": "line 2.*gone",
    "path,label\na.mp4,\n": "line 2.*a.mp4",
    "path,label\na.mp4\n": "line 2.*a.mp4",
    "path,label\n,run\n": "line 2",
    "a.mp4,run\n": "path,label",
    "path;label\na.mp4;run\n": "path,label",
    "": "path,label",
    "path,label\n": "",
    "path,label\na.mp4,run\na.mp4,jump\n": "line 3.*a.mp4",
    "path,label\na.mp4,run\n./a.mp4,run\n": "line 3.*a.mp4",
    "path,label,split\na.mp4,run,dev\n": "line 2.*dev",
    "path,label,split\na.mp4,run,train\nb.mp4,run,\n": "line 3",
    "path,label\n.,run\n": "line 2",
    "path,label\na.mp4,r\0un\n": "NUL",
    "path,label,group\na.mp4,run,\0\n": "NUL",
    "path,label\na.mp4," + "x" * 200_000: "",
}
NO_CSV = [bytes(300_000), os.urandom(5000), b"\x89HDF\r\n\x1a\n" + bytes(10_000), b"x" * 200_000]


def test_a_fault_in_the_label_file_is_one_clear_line(folder, table):
    root = folder("a.mp4", "b.mp4")
    for text, says in [*FAULTS.items(), *((content, "") for content in NO_CSV)]:
        with pytest.raises(UserError, match=r"labels\.csv.*" + says) as caught:
            from_csv(root, table(text))
        assert "\n" not in str(caught.value)


def test_labels_and_paths_may_be_in_another_encoding(folder, table):
    name = os.fsdecode(b"caf\xe9.mp4")
    found = from_csv(folder(name), table(b"path,label\ncaf\xe9.mp4,caf\xe9\n"))
    assert labels(found) == {name: os.fsdecode(b"caf\xe9")}


COMPOSED, APART = "caf\u00e9", "cafe\u0301"  # one name in two of Unicode's forms; macOS writes the second


def test_names_that_differ_in_unicodes_form_alone_are_one_class_and_one_group(folder, table):
    root = folder(f"{COMPOSED}/v_{APART}_g01_c01.mp4", f"{APART}/v_{COMPOSED}_g01_c02.mp4")
    for found in (
        from_folder(root),
        from_csv(
            root,
            table(
                f"path,label,group\n{COMPOSED}/v_{APART}_g01_c01.mp4,{APART},{APART}\n"
                f"{APART}/v_{COMPOSED}_g01_c02.mp4,{COMPOSED},{COMPOSED}\n"
            ),
        ),
    ):
        assert {source.label for source in found.sources} == {COMPOSED}
        assert len({source.group for source in found.sources}) == 1
        assert all(os.path.isfile(source.file) for source in found.sources)
        assert len(labels(found)) == 2


@pytest.mark.parametrize(("there", "named"), [(APART, COMPOSED), (COMPOSED, APART)])
def test_a_table_and_patterns_find_a_file_whose_name_the_disk_has_in_another_of_unicodes_forms(
    folder, table, there, named
):
    root = folder(f"{there}/deep/{there}.mp4", "run/b.mp4")
    text = f"path,label\n{named}/deep/{named}.mp4,x\nrun/b.mp4,x\n"
    for path in (text, text.replace(f"\n{named}", f"\n{root}/{named}")):
        found = from_csv(root, table(path))
        assert set(labels(found)) == {f"{there}/deep/{there}.mp4", "run/b.mp4"}
        assert all(os.path.isfile(source.file) for source in found.sources)
    split = with_splits(found, val=[], test=[f"{named}/*"])
    assert {source.path: source.split for source in split.sources}[f"{there}/deep/{there}.mp4"] == "test"
    with pytest.raises(UserError, match=r"line 3.*named in line 2"):
        from_csv(root, table(f"path,label\n{named}/deep/{named}.mp4,x\n{there}/deep/{there}.mp4,x\n"))


def test_folders_that_name_a_split_are_classes_and_a_note_says_how_to_split(folder):
    found = from_folder(folder("train/run/a.mp4", "Val/run/b.mp4", "test/jump/c.mp4"))
    assert set(labels(found).values()) == {"train", "Val", "test"}
    (note,) = found.notes
    assert all(text in note for text in ("Val", "test", "train", "--labels", "--val", "--test"))
