"""A live video of which something is missing."""

import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.video.decoded import Absent, Frame, Samples
from preprocess.video.live import LiveVideo
from preprocess.video.log_mel import log_mel
from preprocess.video.settings import PieceSettings
from tests.support.videos import drift, tone

FPS = 25


def live_video() -> LiveVideo:
    return LiveVideo(PieceSettings(short_side=36, mel_bands=16).parameters())


def push(live: LiveVideo, pictures, *, level: float = 0.3) -> None:
    """Pictures with their sound; none at the level 0."""
    samples = tone(len(pictures) / FPS, level=level)
    for at, picture in enumerate(pictures):
        live.push(Frame(picture, 1))
        if level:
            live.push(Samples(samples[at * 640 : (at + 1) * 640]))


def present(live: LiveVideo, begin: float, end: float) -> str:
    streams = live.within({name: [(begin, end)] for name in ("rgb", "flow", "audio")}).streams
    return "".join(name[0] for name, there in streams.items() if there)


def test_no_flow_leads_over_a_gap_and_what_lies_beside_it_is_as_without():
    whole, cut, pictures = live_video(), live_video(), drift(40)
    push(whole, pictures)
    push(cut, pictures[:10])
    cut.push(Absent(frames=20, samples=20 * 640))
    push(cut, pictures[30:])
    for live in (whole, cut):
        live.end()
        assert live.video.frames == 40 and live.until("audio") == pytest.approx(1.6, abs=0.02)
    for steps in (range(9), range(30, 39)):
        np.testing.assert_array_equal(cut.frames(cut.video, "flow", steps), whole.frames(whole.video, "flow", steps))
    np.testing.assert_array_equal(cut.frames(cut.video, "rgb", [35]), whole.frames(whole.video, "rgb", [35]))
    assert all(cut._flow[k] is None for k in range(9, 30)) and cut._flow.count == 39
    np.testing.assert_array_equal(cut.mel(cut.video, 0, 160)[130:150], whole.mel(whole.video, 0, 160)[130:150])


def test_a_stream_is_there_in_a_window_only_if_it_has_come():
    live, pictures = live_video(), drift(50)
    push(live, pictures[:25])
    live.push(Absent(frames=25, samples=25 * 640))
    push(live, pictures[25:], level=0.0)
    live.push(Absent(samples=25 * 640))
    push(live, pictures[:25])
    live.end()
    assert live.video.seconds == 4.0
    assert present(live, 0.0, 0.96) == "rfa"
    assert present(live, 0.5, 1.5) == "a"
    assert present(live, 1.0, 2.0) == ""
    assert present(live, 1.5, 2.5) == ""
    assert present(live, 2.0, 2.96) == "rf"
    assert present(live, 2.5, 3.5) == "rfa"
    assert present(live, 3.0, 3.96) == "rfa"


def test_a_video_may_begin_with_what_is_lost():
    live, pictures = live_video(), drift(20)
    live.push(Absent(frames=5, samples=5 * 640))
    push(live, pictures)
    live.end()
    assert (live.video.height, live.video.width, live.video.frames) == (36, 48, 25)
    assert present(live, 0.0, 0.4) == "a" and present(live, 0.2, 0.8) == "rfa"
    whole = live_video()
    push(whole, pictures)
    np.testing.assert_array_equal(live.frames(live.video, "flow", [5, 9]), whole.frames(whole.video, "flow", [0, 4]))


def test_a_sound_that_stops_is_noticed_by_the_pictures_that_go_on():
    live, pictures = live_video(), drift(50)
    push(live, pictures[:25])
    assert not live.has_stopped("audio", patience=1.0)
    push(live, pictures[25:], level=0.0)
    assert live.has_stopped("audio", patience=1.0) and not live.has_stopped("rgb", patience=1.0)
    live.push(Absent(samples=25 * 640))
    assert live.has_stopped("audio", patience=1.0)
    live.push(Samples(tone(0.04)))
    assert not live.has_stopped("audio", patience=1.0)


def test_silence_that_only_fills_up_is_no_sound():
    live = live_video()
    push(live, drift(25))
    live.push(Samples(np.zeros(16_000, np.float32), there=False))
    assert live.video.sound == (0.0, 1.0)
    np.testing.assert_array_equal(live.mel(live.video, 0, 100)[:90], log_mel(tone(1.0), bands=16)[:90])


def test_pictures_of_another_size_are_refused_also_after_a_gap():
    live = live_video()
    push(live, drift(3))
    live.push(Absent(frames=3))
    with pytest.raises(UserError, match="50×36"):
        live.push(Frame(np.zeros((36, 50, 3), np.uint8), 1))
