"""Joining recordings: where a file's clock begins anew or jumps, later timestamps are shifted to go on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.format import Flags

BACK = Fraction(1, 2)  # s; decoding times never run backwards, but those of broken files may a little
AHEAD = Fraction(10)  # s; FFmpeg's -dts_delta_threshold: in a broadcast a longer jump is a new clock, not a still
AHEAD_LIVE = Fraction(600)  # s; the same in FLV, where a recording begins at zero and goes on at the broadcaster's time
CLOSE = Fraction(1)  # s; streams of one new clock jump by about the same time
PATIENCE = Fraction(3)  # s; the interleaving of streams is looser than this in no sound file
HELD = 1000  # packets; as PATIENCE, where only one stream goes on


@dataclass(eq=False)
class _Track:
    """One stream's progress."""

    tick: Fraction  # s
    shift: int = 0  # ticks that are added to its timestamps
    ticks: int | None = None  # the end of its last packet, shifted
    jump: Fraction | None = None  # s; of the first held packet that does not follow its predecessors
    jumped: int = 0  # held packets from there on
    jump_end: Fraction = Fraction(0)  # s; the end of the last of them
    went_on: Fraction = Fraction(0)  # s; of held packets that follow their predecessors
    is_back: bool = False  # True if packets follow their predecessors again after a jump

    def __post_init__(self) -> None:
        self._near = int(BACK / self.tick)

    @property
    def end(self) -> Fraction | None:
        """The end of its last packet, in seconds."""
        return None if self.ticks is None else self.ticks * self.tick

    def follows(self, packet: av.Packet) -> bool:
        """True if a packet clearly follows the last one, as most do; without the exact arithmetic of seconds."""
        begin = packet.pts if packet.dts is None else packet.dts
        return begin is not None and self.ticks is not None and abs(begin + self.shift - self.ticks) < self._near

    def move(self, seconds: Fraction) -> None:
        """Shift its further timestamps."""
        self.shift += round(seconds / self.tick)

    def settle(self) -> None:
        """Forget the held packets."""
        self.jump, self.jumped, self.went_on, self.is_back = None, 0, Fraction(0), False


class JoinedPackets:
    """The packets of a file on one clock. Iterate it once; then `joints` counts the places where its clock changed.

    The clock has changed if all streams jump by the same time. If one alone jumps, it has a hole or a broken timestamp,
    and its packets pass unchanged.
    """

    def __init__(
        self, packets: Iterable[av.Packet], streams: Iterable[av.stream.Stream], *, ahead: Fraction | None
    ) -> None:
        """`streams` are those that matter; packets of others pass unchanged. `ahead` is the longest jump ahead that is
        a hole, in seconds; None where a clock never jumps ahead."""
        self.joints = 0
        self._packets = packets
        self._tracks = {stream.index: _Track(Fraction(stream.time_base)) for stream in streams}
        self._ahead = ahead
        self._held: list[av.Packet] = []  # packets since a jump that is not understood yet

    def __iter__(self) -> Iterator[av.Packet]:
        for packet in self._packets:
            track = self._tracks.get(packet.stream.index)
            if self._held or (track is not None and not track.follows(packet) and self._jump(packet) is not None):
                self._held.append(packet)
                self._follow(packet)
                yield from self._decide(is_last=False)
            else:
                yield self._pass(packet)
        yield from self._decide(is_last=True)

    def _jump(self, packet: av.Packet) -> Fraction | None:
        """The seconds by which a packet jumps against its predecessor; None if it follows it."""
        track, time = self._tracks.get(packet.stream.index), _time(packet)
        if track is None or time is None or track.end is None:
            return None
        stray = time + track.shift * track.tick - track.end
        return stray if stray < -BACK or (self._ahead is not None and stray > self._ahead) else None

    def _follow(self, packet: av.Packet) -> None:
        track, time = self._tracks.get(packet.stream.index), _time(packet)
        if track is None or time is None:
            return
        jump = self._jump(packet)
        if jump is not None or (track.jump is not None and abs(time - track.jump_end) < BACK):
            track.jump = jump if track.jump is None else track.jump
            track.jumped += 1
            track.jump_end = time + _duration(packet)
        elif track.jump is not None:
            track.is_back = True
        elif track.end is not None:
            track.went_on = time + track.shift * track.tick + _duration(packet) - track.end

    def _decide(self, *, is_last: bool) -> Iterator[av.Packet]:
        """Release the held packets as soon as the jump is understood."""
        tracks = [track for track in self._tracks.values() if track.end is not None]
        jumps = [track.jump for track in tracks if track.jump is not None]
        others = [track for track in tracks if track.jump is None]
        is_stray = any(track.is_back or track.went_on > PATIENCE for track in tracks)
        is_time = is_last or is_stray or len(self._held) > HELD
        if not is_time and (others or any(track.jumped < 2 for track in tracks)):
            return
        # a stream that has ended has no say; the smallest jump decides, so that no stream overlaps what came before
        is_joint = jumps and not is_stray and not any(track.went_on for track in others)
        shift = -min(jumps) if is_joint and max(jumps) - min(jumps) <= CLOSE else None
        self.joints += shift is not None
        held, self._held = self._held, []
        waiting = {index for index, track in self._tracks.items() if track.jump is not None}
        if shift is not None:
            for track in self._tracks.values():  # streams that have not begun yet belong to what comes
                if track.end is None:
                    track.move(shift)
        for packet in held:
            index = packet.stream.index
            if shift is not None and index in waiting and self._jump(packet) is not None:
                waiting.remove(index)
                self._tracks[index].move(shift)
            yield self._pass(packet)
        for track in self._tracks.values():
            if shift is not None and track in others:
                track.move(shift)
            track.settle()

    def _pass(self, packet: av.Packet) -> av.Packet:
        track = self._tracks.get(packet.stream.index)
        ticks = packet.pts if packet.dts is None else packet.dts
        if track is None or ticks is None:
            return packet
        if track.shift:
            packet.pts = None if packet.pts is None else packet.pts + track.shift
            packet.dts = None if packet.dts is None else packet.dts + track.shift
        track.ticks = ticks + track.shift + (packet.duration or 0)
        return packet


def longest_hole(container: av.container.InputContainer) -> Fraction | None:
    """The longest jump ahead in a file that is a hole, not a new clock; None if its format has one clock."""
    if container.format.flags & Flags.ts_discont.value:
        return AHEAD
    return AHEAD_LIVE if "flv" in container.format.name else None


def _time(packet: av.Packet) -> Fraction | None:
    """The decoding time, in seconds, or else the presentation time."""
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None else ticks * packet.time_base


def _duration(packet: av.Packet) -> Fraction:
    return (packet.duration or 0) * packet.time_base
