"""Recordings one behind the other, or a clock that jumps, become one recording; holes and broken timestamps do not."""

from dataclasses import dataclass
from fractions import Fraction

import pytest

from preprocess.video.joining import AHEAD, AHEAD_LIVE, JoinedPackets
from tests.support.cases import case


@dataclass(frozen=True)
class Stream:
    index: int
    time_base: Fraction = Fraction(1, 1000)


@dataclass
class Packet:
    stream: Stream
    dts: int
    duration: int
    time_base: Fraction = Fraction(1, 1000)

    @property
    def pts(self) -> int:
        return self._pts if hasattr(self, "_pts") else self.dts

    @pts.setter
    def pts(self, value: int) -> None:
        self._pts = value


VIDEO, SOUND = Stream(0), Stream(1)


def recording(begin: int, end: int, *, lag: int = 0, streams=(VIDEO, SOUND)) -> list[Packet]:
    """Packets of 40 ms of pictures and 25 ms of sound, times in ms; the sound lies `lag` ms later in the file."""
    packets = [(time, Packet(VIDEO, time, 40)) for time in range(begin, end, 40) if VIDEO in streams]
    packets += [(time + lag, Packet(SOUND, time, 25)) for time in range(begin, end, 25) if SOUND in streams]
    return [packet for _, packet in sorted(packets, key=lambda one: one[0])]


def join(packets: list[Packet], *, ahead: Fraction | None = AHEAD):
    joined = JoinedPackets(packets, (VIDEO, SOUND), ahead=ahead)
    times: dict[int, list[int]] = {0: [], 1: []}
    for packet in joined:
        assert packet.pts == packet.dts
        times[packet.stream.index].append(packet.dts)
    return times, joined.joints


def steady(times: dict[int, list[int]], end: int) -> bool:
    return times == {0: list(range(0, end, 40)), 1: list(range(0, end, 25))}


@pytest.mark.parametrize(
    ("first", "second"), [(2000, 0), (20_000, 0), (20_000, 5000), (2000, 102_000), (2000, 90_000_000)]
)
def test_a_clock_that_begins_anew_or_jumps_goes_on(first, second):
    for lag in (0, 300, 1500):
        with case(lag):
            packets = recording(0, first, lag=lag) + recording(second, second + 4000, lag=lag)
            times, joints = join(packets)
            assert joints == 1
            assert steady(times, first + 4000)


def test_packets_of_the_first_recording_may_come_among_those_of_the_second():
    first, second = recording(0, 2000), recording(0, 2000)
    late = [packet for packet in first[-20:] if packet.stream is SOUND][-3:]
    packets = [packet for packet in first if packet not in late] + second[:1] + late + second[1:]
    times, joints = join(packets)
    assert joints == 1
    assert {index: sorted(found) for index, found in times.items()} == {
        0: [*range(0, 4000, 40)],
        1: [*range(0, 4000, 25)],
    }


def test_three_recordings_are_joined_twice():
    times, joints = join(recording(0, 3000) + recording(0, 3000) + recording(500_000, 504_000))
    assert joints == 2
    assert steady(times, 10_000)


def test_a_recording_without_sound_is_joined_too():
    times, joints = join(recording(0, 2000) + recording(0, 4000, streams=(VIDEO,)))
    assert joints == 1
    assert times[0] == list(range(0, 6000, 40))


@pytest.mark.parametrize("hole", [SOUND, VIDEO])
def test_a_hole_in_one_stream_stays_a_hole(hole):
    packets = [p for p in recording(0, 60_000) if p.stream is not hole or not 10_000 <= p.dts < 40_000]
    times, joints = join(packets)
    assert joints == 0
    assert times == join(recording(0, 60_000))[0] | {
        hole.index: [t for t in times[hole.index] if not 10_000 <= t < 40_000]
    }


def test_a_broken_timestamp_passes_unchanged():
    packets = recording(0, 10_000)
    packets[101].dts += 50_000
    packets[200].dts = 0
    expected = {s.index: [p.dts for p in packets if p.stream is s] for s in (VIDEO, SOUND)}
    assert join(packets) == (expected, 0)


def test_only_a_broadcasts_clock_may_jump_ahead():
    packets = recording(0, 2000) + recording(102_000, 104_000)
    assert join(packets, ahead=None)[1] == 0


def test_a_first_packet_at_zero_is_joined_to_a_recording_that_is_hours_later():
    times, joints = join([Packet(VIDEO, 0, 40), *recording(10_800_000, 10_804_000)], ahead=AHEAD_LIVE)
    assert joints == 1
    assert times[0][:3] == [0, 40, 80]
    assert times[1][:2] == [40, 65]
