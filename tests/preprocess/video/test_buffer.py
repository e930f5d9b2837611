"""The queue between decoding and its user."""

import threading

import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.video.buffer import CAPACITY, STANDING, LiveBuffer
from preprocess.video.decoded import Absent, Frame, Samples
from preprocess.video.limits import Unusable
from tests.support.live import FPS, FakeClock, live_items, picture


def buffer(source=(), **settings):
    return LiveBuffer(source, name="camera 7", fps=FPS, patience=0.3, **settings)


def filled(count: int, **settings) -> LiveBuffer:
    """Filled faster than anybody takes."""
    queue = buffer(**settings)
    for number, item in enumerate(live_items(count)):
        queue.put(number / 50, item)
    return queue


def test_the_oldest_pictures_go_time_goes_on_and_sound_stays():
    most = round(CAPACITY * FPS)
    queue = filled(most + 10)
    items = list(queue)
    levels = [item.rgb[0, 0, 0] for item in items if isinstance(item, Frame)]
    assert levels == list(range(most, most + 10))
    assert queue.dropped == most and items[0] == Absent(frames=most)
    heard = np.concatenate([item.samples for item in items if isinstance(item, Samples)])
    np.testing.assert_array_equal(heard, np.repeat(np.arange(most + 10) / 1000, 640).astype(np.float32))


def test_a_queue_that_nobody_takes_from_stays_small_whatever_comes():
    queue = filled(2000)
    for _ in range(1000):
        queue.put(0.0, Absent(frames=25, samples=16_000))
    assert len(queue._items) < 2 * CAPACITY * FPS + 10 * FPS + 2
    items = list(queue)
    frames = sum(
        item.count if isinstance(item, Frame) else item.frames for item in items if not isinstance(item, Samples)
    )
    samples = sum(
        len(item.samples) if isinstance(item, Samples) else item.samples
        for item in items
        if not isinstance(item, Frame)
    )
    assert (frames, samples) == (27_000, 2000 * 640 + 16_000_000)


def test_pictures_that_wait_for_long_are_dropped_so_that_a_delay_does_not_stay():
    clock = FakeClock()
    queue = buffer(monotonic=clock.monotonic)
    taken = iter(queue)
    for level in range(30):  # a stall has ended: 1.2 s come at once, then a picture each time that one is taken
        queue.put(clock.now, picture(level))
    seen = []
    for level in range(30, 200):
        queue.put(clock.now, picture(level))
        seen.append((clock.now, next(taken)))
        clock.now += 1 / FPS
    (gap,) = [moment for moment, item in seen if isinstance(item, Absent)]
    assert gap - 100 == pytest.approx(STANDING, abs=3 / FPS)
    assert queue.dropped == 30 and seen[-1][1].rgb[0, 0, 0] >= 198
    queue.stop()


def test_when_nothing_may_be_lost_decoding_waits():
    queue = buffer(((0.0, item) for item in live_items(200)), lossless=True)
    levels = [item.rgb[0, 0, 0] for item in queue if isinstance(item, Frame)]
    assert levels == list(range(200)) and queue.dropped == 0


def test_the_moments_of_a_picture_are_its_arrival_and_when_its_turn_came():
    clock = FakeClock()
    queue = buffer(monotonic=clock.monotonic)
    for number, item in enumerate([picture(0), picture(1, count=3), Absent(frames=2), picture(2)]):
        queue.put(float(number), item)
    taken = iter(queue)
    for _ in range(4):
        clock.now += 1
        next(taken)
    assert [queue.moments(frame) for frame in (0, 2, 3, 5, 6)] == [(0, 101), (1, 102), (1, 102), (2, 103), (3, 104)]
    assert queue.moments(7) is None
    queue.stop()


def test_a_source_that_sends_nothing_is_named():
    silent = threading.Event()
    with pytest.raises(UserError, match=r"camera 7.*0\.3 s"):
        list(buffer((0.0, silent.wait()) for _ in range(1)))
    silent.set()


def test_an_error_of_the_source_is_named_and_a_bug_is_not_hidden():
    def broken(error):
        yield 0.0, picture(0)
        raise error

    with pytest.raises(UserError, match=r"camera 7.*corrupt"):
        list(buffer(broken(Unusable("corrupt: no"))))
    with pytest.raises(KeyError):
        list(buffer(broken(KeyError("a bug"))))


def test_it_ends_after_its_seconds_or_when_it_is_told_to():
    assert sum(isinstance(item, Frame) for item in buffer(((0.0, i) for i in live_items(40)), seconds=1.0)) == 25
    asked = threading.Event()
    for item in buffer(((0.0, i) for i in live_items(40)), lossless=True, stop=asked.is_set):
        if isinstance(item, Frame) and item.rgb[0, 0, 0] == 9:
            asked.set()
    assert isinstance(item, Frame) and item.rgb[0, 0, 0] == 9
