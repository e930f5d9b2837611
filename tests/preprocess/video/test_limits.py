"""What a file may ask of us: length, frames, pixels and memory."""

import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.clock import SOUND_AHEAD, SampleClock
from preprocess.video.decoder import Decoder, _check_memory
from preprocess.video.limits import Limits, Unusable
from tests.support.videos import drift, grey, sound, tone, write_video


def decoder_of(path: Path, **limits) -> Decoder:
    return Decoder(str(path), fps=25, short_side=32, watch=Stopwatch(), limits=Limits(**limits))


def refusal(path: Path, **limits) -> str:
    with pytest.raises(Unusable) as caught:
        list(decoder_of(path, **limits))
    return str(caught.value)


def test_a_short_video_is_taken_unless_the_user_asks_for_more(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(10))
    list(decoder_of(path))
    list(decoder_of(path, min_seconds=0.4))
    assert re.match(r"too short: 0\.40 s.*--min-seconds", refusal(path, min_seconds=1))


def test_a_video_that_is_short_because_it_was_cut_says_both_lengths(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(100), codec="mjpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    assert re.match(r"too short: .*0\.9.*4\.00 s.*--min-seconds", refusal(path, min_seconds=2))


def test_a_long_video_is_given_up_as_soon_as_it_is_too_long(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(100))
    decoder = decoder_of(path, max_seconds=1)
    with pytest.raises(Unusable, match=r"^too long: .*--max-seconds"):
        list(decoder)
    assert decoder.seconds < 1.1
    list(decoder_of(path, max_seconds=4))


def test_a_still_that_is_held_for_too_long_is_too_long_before_it_is_repeated(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(2), times=[0, 500], codec="mjpeg")
    assert refusal(path, max_seconds=100).startswith("too long")


def test_the_number_of_frames_is_limited_however_short_each_is(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(100), times=[k / 1000 for k in range(100)], codec="mjpeg")
    assert re.match(r"too long: .*--max-frames 99", refusal(path, max_frames=99))
    list(decoder_of(path, max_frames=100))


def test_8k_is_not_too_large_and_four_times_that_is():
    Limits().check_frame(7680, 4320)
    Limits().check_frame(8192, 4320)
    for size in ((16384, 16384), (15360, 8640), (1 << 20, 64)):
        with pytest.raises(Unusable, match=r"^too large: .*--max-pixels"):
            Limits().check_frame(*size)


def test_a_large_frame_is_refused_by_its_exact_size(tmp_path):
    path = write_video(tmp_path / "a.mp4", [grey(50, (96, 128))] * 3)
    assert re.match(r"too large: 128×96.*--max-pixels", refusal(path, max_pixels=128 * 96 - 1))
    list(decoder_of(path, max_pixels=128 * 96))


def test_a_frame_that_grows_in_the_middle_is_refused(tmp_path):
    small = write_video(tmp_path / "a.mjpeg", [grey(50)] * 12, codec="mjpeg")
    large = write_video(tmp_path / "b.mjpeg", [grey(50, (96, 128))] * 3, codec="mjpeg")
    small.write_bytes(small.read_bytes() + large.read_bytes())
    assert re.match(r"too large: 128×96.*--max-pixels", refusal(small, max_pixels=48 * 36))


def png(width: int, height: int) -> bytes:
    """A black picture, a thousandth as large as what it unpacks to."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(1)
    data = b"".join([*(pack.compress(bytes(width + 1)) for _ in range(height)), pack.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_png(path: Path, side: int, *, told: int) -> Path:
    """One PNG as a video whose header tells `told` as its side."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("png", rate=25)
        stream.width = stream.height = told
        stream.pix_fmt = "gray"
        file.start_encoding()
        packet = av.Packet(png(side, side))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        packet.duration, packet.is_keyframe = 1, True
        file.mux(packet)
    return path


def write_large(path: Path, side: int) -> Path:
    """One large black frame of H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = side
        stream.options = {"preset": "ultrafast", "threads": "1"}
        # not a frame of PyAV's own, which holds what was in the memory: as noise it is too large for some containers
        frame = av.VideoFrame.from_ndarray(np.zeros((side * 3 // 2, side), np.uint8), format="yuv420p")
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode()]:
            file.mux(packet)
    return path


GREW = r"""
import re, sys
from pathlib import Path
from preprocess.video.decoder import Decoder, _check_memory
from preprocess.video.limits import Limits, Unusable
from preprocess.common.stopwatch import Stopwatch
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
try:
    limits = Limits(max_pixels=int(sys.argv[2]))
    list(Decoder(sys.argv[1], fps=25, short_side=32, watch=Stopwatch(), limits=limits))
    print("taken")
except Unusable as error:
    print(error)
print(peak() - before)
"""


def decode_apart(path: Path, max_pixels: int) -> tuple[str, int]:
    """What became of a file, and by how many MiB a process grew for it."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells how large a process was")
    command = [sys.executable, "-c", GREW, str(path), str(max_pixels)]
    reason, grew = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n")
    return reason, int(grew)


@pytest.mark.parametrize("told", [64, 14_000])
def test_a_bomb_is_refused_before_its_frame_is_in_memory(tmp_path, told):
    path = write_png(tmp_path / "a.mov", 14_000, told=told)  # 187 MiB of grey
    assert path.stat().st_size < 2_000_000
    reason, grew = decode_apart(path, Limits().max_pixels)
    assert reason.startswith("too large: ")
    assert grew < 100
    assert decode_apart(path, 200_000_000)[1] > 150  # so that the measurement can fail


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_bomb_of_h264_is_refused_before_its_frame_is_in_memory(tmp_path, name):
    path = write_large(tmp_path / name, 7200)
    reason, grew = decode_apart(path, Limits().max_pixels)
    assert reason.startswith("too large: ")
    assert grew < 100


def test_a_bomb_in_flv_is_refused_though_ffmpeg_has_looked_at_a_frame_of_it(tmp_path):
    assert refusal(write_large(tmp_path / "a.flv", 7200)).startswith("too large: 7200×7200")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    count = 12_000
    pictures = drift(20, size=(16, 16)) * (count // 20)
    times = [k / 1000 for k in range(count)]
    track = sound(tone(count / 1000))
    path = write_video(tmp_path / "a.mkv", pictures, times=times, codec="mjpeg", track=track)
    decoder = decoder_of(path)
    held = []
    tracemalloc.start()
    try:
        for k, _ in enumerate(decoder):
            if k % 10 == 0:
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert decoder.pictures.clock.placed == count
    quarter = len(held) // 4
    assert max(held[-quarter:]) < max(held[:quarter]) + 100_000


def test_sound_far_ahead_of_the_pictures_does_not_fill_the_memory():
    clock = SampleClock(rate=100)
    clock.begin(0)
    for _ in range(10 * round(SOUND_AHEAD)):
        clock.push(np.ones(100, np.float32))
    taken = sum(map(len, clock.take(10**9)))
    assert taken == pytest.approx(SOUND_AHEAD * 100, abs=200)
    clock.push(np.ones(100, np.float32))  # what was let go leaves a hole, which may not be closed
    assert not list(clock.take(10**9))


def test_sound_of_a_rate_that_cannot_be_is_no_sound(tmp_path):
    """The silence in a gap of ten minutes would fill the memory at such a rate."""
    path = write_video(tmp_path / "a.mkv", drift(10), codec="mjpeg", track=sound(np.zeros(10**6), rate=10**7))
    decoder = decoder_of(path)
    list(decoder)
    assert decoder.audio_absent == "not decodable"


SHORT_OF_MEMORY = r"""
import resource, sys
from preprocess.video.decoder import Decoder, _check_memory
from preprocess.video.limits import Unusable
from preprocess.workers.worker import PAGE, memory_pages
from preprocess.common.stopwatch import Stopwatch
import os
decoder = Decoder(sys.argv[1], fps=25, short_side=32, watch=Stopwatch())
limit = memory_pages(os.getpid())[0] * PAGE + (int(sys.argv[2]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    list(decoder)
    print("taken", decoder.errors)
except (MemoryError, Unusable) as error:
    print(type(error).__name__.replace("_Array", ""), error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_where_memory_is_short_it_is_not_the_file_that_is_damaged(tmp_path, name):
    path = write_large(tmp_path / name, 5000)  # 36 MiB a frame, of which a decoder holds some
    seen = set()
    for megabytes in (20, 40, 60, 80, 120, 3000):
        command = [sys.executable, "-c", SHORT_OF_MEMORY, str(path), str(megabytes)]
        seen.add(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    assert seen == {"MemoryError", "taken"}


def test_a_size_that_cannot_be_is_damage_and_no_lack_of_memory():
    """FFmpeg says that there is not enough memory for a packet of which a broken head says that it has 3 GB."""
    _check_memory(av.error.MemoryError(12, "Cannot allocate memory"), 10**6)
    _check_memory(av.error.InvalidDataError(1, "damaged"), 10**6)
