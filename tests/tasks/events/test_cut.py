"""Parts of long videos as a store of their own."""

import numpy as np
import pytest

from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.store.format import MEL_RATE
from tasks.events.cut import cut_store
from tasks.events.event import Event
from tasks.events.labels import BACKGROUND, known_events
from tests.support.stores import Spec, make_store


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    specs = [
        Spec("day/one.mp4", frames=200, covered=(0.0, 4.0)),
        Spec("day/two.mp4", frames=100, streams=("rgb",), split="test"),
        Spec("night/three.mp4", frames=60),
    ]
    return make_store(tmp_path_factory.mktemp("long") / "long.h5", specs)


EVENTS = {
    "day/one.mp4": [Event("day/one.mp4", 1.0, 2.2, "jump"), Event("day/one.mp4", 6.0, 7.0, "bark")],
    "day/two.mp4": [Event("day/two.mp4", 0.0, 4.0, "jump")],
}


def test_parts_hold_the_bytes_of_their_frames_and_nothing_else_is_lost(long, tmp_path):
    parts = cut_store(long, EVENTS, tmp_path / "parts.h5")
    found = {(video.group, video.label, round(video.seconds, 2)) for video in parts.videos}
    assert found == {
        ("day/one.mp4", "jump", 1.2),
        ("day/one.mp4", "bark", 1.0),
        ("day/one.mp4", BACKGROUND, 1.0),  # before, between and after
        ("day/one.mp4", BACKGROUND, 3.8),
        ("day/two.mp4", "jump", 4.0),
    }
    part, whole = parts.find("#1.00-2.20"), long.find("one")
    for stream, count in (("rgb", 30), ("flow", 29)):
        theirs = long.frames(whole, stream, range(25, 25 + count))
        np.testing.assert_array_equal(parts.frames(part, stream, range(count)), theirs)
    row = round(1.0 * MEL_RATE)
    np.testing.assert_array_equal(parts.mel(part, 0, 120), long.mel(whole, row, row + 120))
    assert list(check(parts.path, decode=True)) == []


def test_a_part_without_sound_says_so_and_absent_streams_stay_absent(long, tmp_path):
    parts = cut_store(long, EVENTS, tmp_path / "parts.h5")
    bark, jump = parts.find("bark"), parts.find("two.mp4#")
    assert not bark.streams["audio"] and "sound" in bark.why["audio"]
    assert jump.streams == {"rgb": True, "flow": False, "audio": False} and jump.split == "test"


def test_a_table_names_videos_by_parts_of_their_path_and_wrong_ones_are_one_line(long, tmp_path):
    def table(*rows: str):
        path = tmp_path / "events.csv"
        path.write_text("\n".join(["video,start,end,label", *rows]) + "\n")
        return path

    found, notes = known_events(long, table("one,1,2,jump", "day/two.mp4,3.9,9,bark"))
    assert {path: [event.end for event in its] for path, its in found.items()} == {
        "day/one.mp4": [2],
        "day/two.mp4": [4],
    }
    assert len(notes) == 1
    for row, named in (
        ("one,2,1,jump", "line 2"),
        ("one,x,1,jump", "'x'"),
        ("four,1,2,jump", "four"),
        ("day,1,2,jump", "day"),
        ("one,1,2,", "label"),
        ("one,9,10,jump", "8.00 s"),
    ):
        with pytest.raises(UserError, match=named) as caught:
            known_events(long, table(row))
        assert "\n" not in str(caught.value) and "events.csv" in str(caught.value)
    (tmp_path / "events.csv").write_text("video,start,label\n")
    with pytest.raises(UserError, match="no column end"):
        known_events(long, tmp_path / "events.csv")
