"""A live video as it comes: its times, and what is lost of it."""

import numpy as np
import pytest

from preprocess.video.arrival import Lasting, Over, arriving, paced
from preprocess.video.decoded import Absent, Frame, Samples
from preprocess.video.limits import Unusable
from tests.support.live import FPS, FakeClock, live_items, picture


def test_a_paced_file_hands_each_item_out_at_its_time():
    clock = FakeClock()
    found = []
    for due, item in paced([*live_items(10), picture(99, count=25), picture(100)], fps=FPS, clock=clock):
        assert due == pytest.approx(clock.now)
        found.append((round(clock.now - 100, 6), type(item).__name__))
    expected = [(k / FPS, "Frame") if half == 0 else ((k + 1) / FPS, "Samples") for k in range(10) for half in (0, 1)]
    assert found == [*expected, (34 / FPS, "Frame"), (35 / FPS, "Frame")]  # the still is known when the next one comes


def test_a_decoder_that_is_slow_is_late_and_hands_out_at_once():
    clock = FakeClock()

    def slow():
        for item in live_items(5):
            clock.now += 0.1
            yield item

    late = [clock.now - due for due, item in paced(slow(), fps=FPS, clock=clock) if isinstance(item, Frame)]
    assert late == pytest.approx([0, 0.16, 0.32, 0.48, 0.64])  # 0.2 s a picture, of which 0.04 s were expected


def lasting(connections, clock, *, reconnect=20.0):
    """A source whose connections are lists of items, or errors."""
    told, left = [], iter(connections)

    def connect():
        found = next(left, Unusable("refused"))
        if isinstance(found, Exception):
            raise found
        yield from paced(found, fps=FPS, clock=clock)
        if len(found) % 2:
            raise Over

    return Lasting(connect, fps=FPS, reconnect=reconnect, note=told.append, clock=clock), told


def test_time_goes_on_while_a_source_is_lost_and_sound_and_pictures_are_in_step_after_it():
    clock = FakeClock()
    source, told = lasting([[*live_items(50)], Unusable("refused"), [*live_items(25, first=100)]], clock, reconnect=2)
    items = [(moment - 100, item) for moment, item in source]
    frames = samples = 0
    for moment, item in items:
        if isinstance(item, Frame):
            assert frames / FPS == pytest.approx(moment, abs=1.01 / FPS)
            if item.rgb[0, 0, 0] == 100:
                back = frames
                assert samples == pytest.approx(frames / FPS * 16_000)
            frames += item.count
        elif isinstance(item, Samples):
            samples += len(item.samples)
        else:
            assert item.frames <= FPS + 1  # each second of the loss, not all of it at its end
            frames, samples = frames + item.frames, samples + item.samples
    assert back == round((2.0 + 0.5 + 1.0) * FPS)  # two attempts: after half a second, and after one more
    assert source.reconnects == 1 and sum(isinstance(item, Frame) for _, item in items) == 75
    assert "refused" not in told[0] and "refused" in told[-1]


def test_a_source_that_is_not_found_again_ends_after_its_time():
    clock = FakeClock()
    source, told = lasting([[*live_items(10)]], clock, reconnect=20)
    list(source)
    assert 110 < clock.now < 100 + 0.4 + 20 and source.reconnects == 0
    assert "20 s" in told[-1]


def test_a_source_that_cannot_be_reached_at_first_is_an_error_and_a_recording_is_not_tried_again():
    for first in (Unusable("refused"), []):
        source, _ = lasting([first], FakeClock())
        with pytest.raises(Unusable):
            list(source)
    source, told = lasting([[*live_items(3)][:-1], [*live_items(3)]], FakeClock())
    assert len(list(source)) == 5 and told == []


def test_where_packets_were_lost_one_picture_is_shown_and_the_rest_is_absent():
    source, _ = lasting([[picture(1), picture(2, count=25), picture(3, count=75)]], FakeClock())
    counts = [item if isinstance(item, Absent) else item.count for _, item in source]
    assert counts == [1, 25, 1, Absent(frames=74)]


def test_items_have_the_moments_at_which_they_came():
    clock = FakeClock()

    def items():
        for item in live_items(2):
            clock.now += 1
            yield item

    assert [moment for moment, _ in arriving(items(), clock=clock)] == [101, 102, 103, 104]
    assert np.array_equal(
        [item.samples[0] for _, item in arriving(live_items(2)) if isinstance(item, Samples)], np.float32([0, 0.001])
    )
