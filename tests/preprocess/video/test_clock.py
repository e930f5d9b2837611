"""Frames and samples at any timestamps come out at constant rates."""

from fractions import Fraction

import numpy as np
import pytest

from preprocess.video.clock import LONGEST_GAP, LONGEST_GUESS, BrokenTimestamps, FrameClock, SampleClock
from tests.support.cases import case


def run(times, *, fps=25.0, step=0.04, end=None, known_until=0):
    """Push frames named by their number; the names at every slot."""
    clock = FrameClock(fps=fps, known_until=known_until)
    shown = []
    for number, time in enumerate(times):
        for image, count in clock.push(time, number):
            shown += [image] * count
    for image, count in clock.finish(end=end, step=step):
        shown += [image] * count
    return shown, clock


def chunks(clock: SampleClock, count: int) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *clock.take(count)])


def test_a_constant_rate_keeps_its_length_at_25_frames_a_second():
    for source, frames, expected in (
        (10, 50, 125),
        (25, 50, 50),
        (50, 100, 50),
        (30000 / 1001, 2997, 2500),
        (1, 4, 100),
    ):
        shown, _ = run([k / source for k in range(frames)])
        assert len(shown) == expected
        assert shown == sorted(shown)


def test_every_slot_shows_a_frame_whose_time_is_within_half_a_slot_of_being_on_display():
    for source in (10, 30000 / 1001):
        with case(source):
            shown, _ = run([k / source for k in range(100)])
            for slot, number in enumerate(shown):
                begin, end = number / source, (number + 1) / source
                assert begin - 0.5 / 25 - 1e-9 <= slot / 25 <= end + 0.5 / 25 + 1e-9


def test_ten_frames_a_second_are_repeated_two_or_three_times_each():
    shown, _ = run([k / 10 for k in range(10)])
    assert {shown.count(number) for number in range(10)} == {2, 3}


def test_of_a_fast_source_every_slot_shows_the_frame_nearest_to_its_time():
    for rate in (50, Fraction(60_000, 1001), 60, 120, 240):
        with case(rate):
            times = [k / Fraction(rate) for k in range(round(3 * rate))]
            shown, _ = run(times)
            expected = [
                min(range(len(times)), key=lambda k: abs(times[k] - Fraction(slot, 25))) for slot in range(len(shown))
            ]
            assert shown == expected
            assert len(shown) == 75


def test_of_frames_in_one_slot_that_are_far_apart_the_last_wins_and_stays():
    assert run([0.0, 0.035, 0.057, 0.2], end=0.24)[0] == [0, 2, 2, 2, 2, 3]


def test_the_nearest_frame_of_a_slot_does_not_stay_if_a_later_one_follows():
    assert run([Fraction(0), Fraction(1, 100), Fraction(1, 5)], end=Fraction(1, 4))[0] == [0, 1, 1, 1, 1, 2]


def test_irregular_times_show_every_frame_at_its_own_time():
    times = [0.0, 0.04, 0.28, 0.32, 0.72, 0.76]
    shown, _ = run(times)
    assert [shown.index(number) for number in range(6)] == [0, 1, 7, 8, 18, 19]


def test_zero_of_the_clock_is_the_first_frame_wherever_it_lies():
    expected, _ = run([0.0, 0.09, 0.21])
    for start in (-3.0, 0.5, 95443.7):
        shown, clock = run([start, start + 0.09, start + 0.21])
        assert shown == expected
        assert clock.start == start


def test_a_frame_that_comes_much_too_late_is_dropped_and_counted():
    shown, clock = run([k / 25 for k in range(20)] + [0.02] + [k / 25 for k in range(20, 30)])
    assert 20 not in shown
    assert len(shown) == 30
    assert (clock.dropped, clock.placed) == (1, 30)


def test_equal_times_keep_one_frame():
    shown, clock = run([0.0, 0.04, 0.04, 0.08])
    assert len(shown) == 3
    assert clock.placed + clock.dropped == 4


def test_a_lone_frame_stays_for_the_step_that_the_header_gives():
    assert run([7.0], step=0.2)[0] == [0] * 5
    assert run([7.0], step=0.0001)[0] == [0]


def test_the_last_frame_stays_for_the_mean_step_but_not_for_long():
    assert len(run([0.0, 0.2, 0.4])[0]) == 15
    shown, _ = run([0.0, 30.0])
    assert shown.count(1) == round(LONGEST_GUESS * 25)


def test_the_last_frame_stays_as_long_as_its_file_says():
    assert run([0.0, 4.0, 8.0], end=20.0)[0].count(2) == 300
    assert len(run([0.0, 10.0, 10.1], end=10.2)[0]) == 255
    assert len(run([0.0], end=20.0)[0]) == 500


def test_a_still_is_held_for_minutes_and_a_longer_jump_needs_the_headers_word():
    assert len(run([0.0, 0.04, LONGEST_GAP - 1])[0]) > 14_000
    assert len(run([0.0, 0.04, 700.0, 700.04], end=700.08, known_until=700.1)[0]) == 17_502
    for known_until in (0, 600):
        with pytest.raises(BrokenTimestamps, match=r"86400 s .*0.04 s"):
            run([0.0, 0.04, 0.04 + 86400], known_until=known_until)


def test_a_first_frame_whose_time_is_hours_before_all_others_is_left_out():
    shown, clock = run([0.0, 10_800.0, 10_800.04, 10_800.08])
    assert shown == [1, 2, 3]
    assert (clock.start, clock.dropped) == (10_800.0, 1)


def test_no_frames_give_nothing():
    shown, clock = run([])
    assert shown == []
    assert clock.start is None


def test_samples_are_cut_and_padded_so_that_each_keeps_its_time():
    for start in (-0.5, -0.00003, 0.0, 0.25):
        with case(start):
            rate = 1000
            clock = SampleClock(rate=rate)
            signal = np.arange(1, 2001, dtype=np.float32)
            clock.begin(start)
            for begin in range(0, 2000, 300):
                clock.push(signal[begin : begin + 300])
            out = chunks(clock, 1000)
            at = np.arange(1000) - round(start * rate)
            expected = np.where(at >= 0, signal[np.maximum(at, 0)], 0)
            np.testing.assert_array_equal(out, expected)
            assert clock.covered == (max(0.0, start), 1.0)


def test_samples_taken_bit_by_bit_are_those_taken_at_once():
    signal = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    rng = np.random.default_rng(1)
    clock = SampleClock(rate=1000)
    clock.begin(-0.123)
    out, pushed = [], 0
    while pushed < 5000:
        size = int(rng.integers(1, 400))
        clock.push(signal[pushed : pushed + size])
        pushed += size
        out.append(chunks(clock, int(rng.integers(0, 4500))))
    out.append(chunks(clock, 4500))
    np.testing.assert_array_equal(np.concatenate(out), signal[123 : 123 + 4500])
    assert clock.peak == np.abs(signal[123:4623]).max()


def test_samples_wait_until_their_start_is_known():
    clock = SampleClock(rate=1000)
    clock.push(np.ones(10, np.float32))
    assert not clock.begun
    assert len(chunks(clock, 10)) == 0
    clock.begin(0.0)
    assert chunks(clock, 5).tolist() == [1.0] * 5


def test_a_silence_is_given_as_a_length_and_is_no_sound():
    clock = SampleClock(rate=1000)
    for samples in (np.ones(10, np.float32), 10**9, np.full(20, 2, np.float32)):
        clock.push(samples)
    clock.begin(-(10**9 + 10) / 1000 + 0.1)
    out = chunks(clock, 200)
    np.testing.assert_array_equal(out, np.repeat([0, 2], [100, 20]))
    assert clock.covered == (0.1, 0.12)


def test_sound_wholly_before_zero_covers_nothing():
    clock = SampleClock(rate=1000)
    clock.begin(-1.0)
    clock.push(np.ones(900, np.float32))
    assert len(chunks(clock, 500)) == 0
    assert clock.covered is None
    assert clock.peak == 0.0


def test_padding_is_silence_in_small_blocks_and_is_not_counted_as_sound():
    clock = SampleClock(rate=16_000)
    clock.begin(0.0)
    clock.push(np.ones(16_000, np.float32))
    assert len(chunks(clock, 10**6)) == 16_000
    blocks = list(clock.pad(10**6))
    assert sum(map(len, blocks)) == 10**6 - 16_000
    assert max(map(len, blocks)) <= 1 << 18
    assert not any(block.any() for block in blocks)
    assert clock.covered == (0.0, 1.0)
