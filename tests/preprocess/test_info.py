"""What is in a store, for people and for programs."""

import json

import pytest

from preprocess.common.console import human_bytes, human_seconds, markdown_table, print_table
from preprocess.info import describe
from tests.preprocess.conftest import NOT_UTF8, REJECTED, USED
from tests.support.commands import assert_one_line_error, run


@pytest.fixture(scope="module")
def document(extracted):
    result = run("preprocess.info", extracted.store, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_json_lists_every_video_with_its_streams_and_why_one_is_absent(document):
    rows = {row["path"]: row for row in document["videos"]}
    assert rows.keys() == USED.keys()
    for path, why in USED.items():
        assert rows[path]["why"] == why
        assert rows[path]["streams"] == {stream: stream not in why for stream in ("rgb", "flow", "audio")}
        assert rows[path]["label"] == path.split("/")[0]
    assert rows["run/portrait.mp4"]["why"] == {"audio": "silent"}
    assert NOT_UTF8 in rows  # JSON escapes what is no Unicode, and comes back the same


def test_json_has_classes_lengths_groups_rejects_and_parameters(document):
    assert document["classes"] == ["jump", "run"]
    moving = next(row for row in document["videos"] if row["path"] == "run/moving.mp4")
    assert (moving["frames"], moving["group"]) == (12, None)
    assert moving["seconds"] == pytest.approx(0.48)
    assert [row["path"] for row in document["rejected"]] == sorted(REJECTED)
    assert all(row["reason"] for row in document["rejected"])
    assert document["parameters"]["fps"] == 25.0


def test_json_is_the_same_from_the_function(document, store):
    assert json.loads(json.dumps(describe(store))) == document


def test_people_get_tables_of_classes_and_streams(extracted):
    result = run("preprocess.info", extracted.store)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["jump"][1] == "5"
    assert rows["run"][1] == "3"
    assert rows["flow"][1:3] == ["7", "1"]
    assert rows["audio"][1:3] == ["3", "5"]
    assert "silent ×1" in result.stdout
    assert "short_side 32" in result.stdout


def test_what_is_no_store_is_one_line(tmp_path):
    assert_one_line_error(run("preprocess.info", tmp_path / "gone.h5"), "gone.h5")


def test_bytes_and_times_are_rounded_for_people():
    bytes_of = {0: "0 B", 999: "999 B", 1234: "1.2 kB", 250_000: "250 kB", 3.2e9: "3.2 GB", 5e13: "50.0 TB"}
    assert {count: human_bytes(count) for count in bytes_of} == bytes_of
    times = {0.48: "0.5 s", 59: "59.0 s", 90: "1.5 min", 3723: "1.03 h"}
    assert {seconds: human_seconds(seconds) for seconds in times} == times


def test_a_table_is_as_wide_as_its_cells_with_numbers_to_the_right(capsys):
    print_table(["name", "count"], [["a", "5"], ["longer name", "12345678"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "  a" + " " * 10 + "  " + "       5"
    assert lines[3] == "  longer name  12345678"


def test_a_markdown_table_has_a_rule_under_its_head():
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
