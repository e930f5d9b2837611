"""Decoded frames get the times at which they are shown, by presentation times or by decoding times."""

from fractions import Fraction

from preprocess.video.order import HELD_IN_DOUBT, DisplayOrder, TimedFrame
from tests.support.cases import case

STEP = Fraction(1, 25)


def ordered(packets: list[int | None], output: list[int], *, delay: int) -> list[tuple[int, int]]:
    """Number and slot of each frame, in the order that comes out.

    packets: the time of each packet, in slots; output: the packets' places in the order in which the decoder outputs
    their frames, each `delay` packets late.
    """
    order = DisplayOrder(step=STEP)
    found = []

    def push(number: int) -> None:
        time = packets[output[number]]
        frame = TimedFrame(number, None if time is None else time * STEP)  # type: ignore[arg-type]
        found.extend(order.push(frame))

    for place, time in enumerate(packets):
        order.read(None if time is None else time * STEP)
        if place >= delay:
            push(place - delay)
    for number in range(len(packets) - delay, len(packets)):
        push(number)
    found.extend(order.finish())
    return [(frame.image, round(frame.time / STEP)) for frame in found]


def pyramid(count: int, b_frames: int) -> list[int]:
    """The places in decoding order of frames in the order of display: I B…B P B…B P, the middle B is decoded first."""
    decoding = [0]
    for begin in range(1, count, b_frames + 1):
        group = list(range(begin, min(begin + b_frames + 1, count)))
        middle = group[:-1][len(group[:-1]) // 2 :][:1]
        decoding += [group[-1], *middle, *(k for k in group[:-1] if k not in middle)]
    return [decoding.index(k) for k in range(count)]


def test_decoding_times_are_given_to_the_frames_in_the_decoders_order():
    for b_frames in (0, 1, 2, 3, 7, HELD_IN_DOUBT - 1):
        for delay in (1, 2):
            with case((b_frames, delay)):
                output = pyramid(80, b_frames)
                assert ordered(list(range(80)), output, delay=delay) == [(k, k) for k in range(80)]


def test_presentation_times_decide_also_where_the_decoder_outputs_a_frame_late():
    for b_frames in (0, 1, 3, 7):
        with case(b_frames):
            output = pyramid(80, b_frames)
            packets = [output.index(place) for place in range(80)]
            assert ordered(packets, output, delay=2) == [(k, k) for k in range(80)]
            late = output.copy()
            late[20], late[21] = late[21], late[20]
            found = ordered(packets, late, delay=2)
            if b_frames:
                assert [slot for _, slot in found] == list(range(80))
                assert [number for number, _ in found][19:23] == [19, 21, 20, 22]


def test_frames_without_a_time_follow_their_predecessors():
    assert ordered([None] * 10, list(range(10)), delay=1) == [(k, k) for k in range(10)]
    times = [0, None, None, 3, 4, None]
    assert ordered(times, list(range(6)), delay=0) == [(k, k) for k in range(6)]
