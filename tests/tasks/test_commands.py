"""The commands as a shell starts them."""

from tests.support.commands import assert_one_line_error, run


def test_a_search_on_a_store_that_is_not_there_is_one_line(tmp_path):
    result = run("tasks.tune", "--data", tmp_path / "none.h5", "--trials", 1, "--out", tmp_path / "t")
    assert_one_line_error(result, "none.h5")
