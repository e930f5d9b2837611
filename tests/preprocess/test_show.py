"""One video of a store as a picture."""

import colorsys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.show import draw, flow_to_rgb
from tests.preprocess.conftest import FLASH, NOT_UTF8
from tests.support.commands import assert_one_line_error, run


def test_the_command_writes_a_picture_named_like_the_video(extracted, tmp_path):
    result = run("preprocess.show", extracted.store, "run/moving", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "moving.png" in result.stdout
    assert min(cv2.imread(str(tmp_path / "moving.png")).shape[:2]) > 200


@pytest.mark.parametrize("path", ["jump/li\nne.mp4", "jump/one frame.mp4", NOT_UTF8, FLASH, "run/portrait.mp4"])
def test_every_video_can_be_drawn_whatever_it_lacks_and_is_called(store, video, tmp_path, path):
    draw(store, video(path), tmp_path / "out.png")
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.std() > 5


@pytest.mark.parametrize("name", ["a$b^$c.mp4", "$\\frac$ {x}_{y}.mp4"])
def test_a_name_is_drawn_as_it_is_and_not_read_as_a_formula(store, video, tmp_path, name):
    renamed = replace(video("run/moving.mp4"), path=name)
    group = store.group(video("run/moving.mp4"))
    store.group = lambda _: group
    draw(store, renamed, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "begins"), [("a.jpg", b"\xff\xd8\xff"), ("a.JPEG", b"\xff\xd8\xff"), ("a.webp", b"RIFF")]
)
def test_the_suffix_says_which_picture_is_written(store, video, tmp_path, name, begins):
    draw(store, video("run/moving.mp4"), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_suffix_of_no_picture_is_named_and_nothing_is_written(extracted, tmp_path):
    assert_one_line_error(run("preprocess.show", extracted.store, "moveing", "--out", tmp_path / "a.gif"), "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_video_is_found_by_its_path_or_by_a_part_that_is_its_own(store):
    assert store.find("run/moving.mp4").path == "run/moving.mp4"
    assert store.find("portrait").path == "run/portrait.mp4"
    assert store.find("one frame").path == "jump/one frame.mp4"


def test_a_part_of_many_names_asks_for_more(store):
    with pytest.raises(UserError, match=r"moving.*jump/moving\.mp4.*run/moving\.mp4"):
        store.find("moving")


def test_an_unknown_name_is_told_what_there_is(extracted):
    assert_one_line_error(run("preprocess.show", extracted.store, "moveing"), "moveing", "run/moving.mp4")


def test_the_hue_is_the_direction_and_the_saturation_the_speed():
    for degrees, speed in ((0, 4.0), (45, 1.0), (90, 4.0), (180, 0.0), (300, 1.0)):
        flow = speed * np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        expected = colorsys.hsv_to_rgb(degrees / 360, speed / 4, 1.0)
        np.testing.assert_allclose(flow_to_rgb(flow, full=4.0), expected, atol=1e-6)


def test_faster_motion_than_full_colour_is_full_colour():
    np.testing.assert_allclose(flow_to_rgb(np.array([100.0, 0.0]), full=4.0), (1, 0, 0), atol=1e-6)
