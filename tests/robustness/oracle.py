"""What a file promises of its pictures, read by a few lines that share nothing with preprocess/: a second opinion.

    printf 'a.mp4\\0b.mkv' | python -m tests.robustness.oracle    # a line of JSON for each

FFmpeg reads hostile files here too, so it does so in a process of its own, whose time and memory are limited.
"""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SECONDS = 60  # that one file may take
MEMORY = 4 << 30  # bytes of address space
ROOT = Path(__file__).resolve().parents[2]
BROADCAST = ("mpegts", "mpeg")  # are recorded from anywhere: the first pictures may lean on some that are not there
Promises = dict[str, float]


def read(file: str) -> Promises:
    """Every source that says how long the pictures should be → seconds; "decoded": how many FFmpeg itself decodes.

    What the container says counts where nothing but pictures could be that long, and not in Ogg, for which FFmpeg adds
    the time at which a late sound starts.
    """
    import av

    form = "mjpeg" if file.endswith(".mjpeg") else None  # which looks like much else
    with av.open(file, format=form, options={"protocol_whitelist": "file"}, metadata_errors="replace") as container:
        name = container.format.name.split(",")[0]
        video = container.streams.best("video") or container.streams.video[0]
        tick = float(video.time_base)
        late = 0 if name == "matroska" else container.start_time or 0  # Matroska counts from zero, others from here
        end = container.duration and (late + container.duration) / av.time_base
        if name == "asf" and video.duration:  # the whole's: FFmpeg adds to the container's how late a stream starts
            end = video.duration * tick
        count, begins, others, decoded = 0, [], [], []
        for stream in container.streams:
            if stream is not video and stream.duration and name != "asf":  # which gives every stream the whole's
                others.append(float(((stream.start_time or 0) + stream.duration) * stream.time_base))
        with suppress(av.error.FFmpegError, IndexError):  # how far it can be read is what counts
            for packet in container.demux():
                if packet.pts is not None and packet.size and not packet.is_discard:
                    if packet.stream is video:
                        begins.append(packet.pts * tick)
                    else:
                        others.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is video:
                    count += packet.size > 0  # also those that an edit list leaves out
                    with suppress(av.error.FFmpegError, ValueError):
                        decoded += [frame.time for frame in packet.decode() if frame.time is not None]
        begin = min(decoded, default=0.0) if name in BROADCAST else min(begins, default=0.0)
        said: Promises = {"decoded": max(decoded, default=begin) - begin}
        if begins:  # how long the last one stays is no matter
            said["packets"] = max(begins) - begin
        if video.duration and name != "asf":
            said["stream"] = ((video.start_time or 0) + video.duration) * tick - begin
        # of an MP4's frames an edit list may leave out any number
        if video.frames > count and video.average_rate and not (name == "mov" and video.duration):
            said["frames"] = float(video.frames / video.average_rate)
        if end and name != "ogg" and not any(end - 0.2 < other < end + 1 for other in others):
            said["container"] = end - begin
    return said


def ask(files: Sequence[str]) -> dict[str, Promises | None]:
    """What each file promises; None for one that cannot be opened, or that costs its reader."""
    found: dict[str, Promises | None] = {}
    left = list(files)
    while left:
        result = subprocess.run(
            [sys.executable, "-m", "tests.robustness.oracle"],
            input="\0".join(left).encode("utf-8", "surrogateescape"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        lines = result.stdout.splitlines()
        found |= zip(left, map(json.loads, lines), strict=False)
        left = left[len(lines) :]
        if left:  # its reader has died
            found[left.pop(0)] = None
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for file in sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0"):
        signal.alarm(SECONDS)  # ends the process
        try:
            said = read(file)
        except Exception:
            said = None
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
