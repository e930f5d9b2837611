"""Files that would lead a reader elsewhere, or wait for ever, and names that mean more than a name."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.preprocess.store.test_attacks import external_reference
from tests.support.videos import flash, write_video

ROOT = Path(__file__).resolve().parents[2]
USED = "used"
TEXTS = {  # name → what stands in it, and what is to be said of it
    "concat.mp4": ("ffconcat version 1.0\nfile CANARY.mp4\n", "not media: a playlist"),
    "concat, relative.mkv": ("ffconcat version 1.0\nfile ../../outside/canary.mp4\n", "not media: a playlist"),
    "concat, passwd.avi": ("ffconcat version 1.0\nfile /etc/passwd\n", "not media: a playlist"),
    "concat, protocol.mp4": ("ffconcat version 1.0\nfile 'concat:CANARY.ts|CANARY.ts'\n", "not media: a playlist"),
    "concat, marked.mp4": ("\ufeffffconcat version 1.0\nfile CANARY.mp4\n", "not media: a playlist"),
    "hls.mp4": ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nCANARY.ts\n#EXT-X-ENDLIST\n", "not media: a playlist"),
    "hls.ts": ("#EXTM3U\n#EXTINF:1,\nfile://CANARY.ts\n#EXT-X-ENDLIST\n", "not media: a playlist"),
    "hls, http.mov": ("#EXTM3U\n#EXTINF:1,\nhttp://HOST/a.ts\n#EXT-X-ENDLIST\n", "not media: a playlist"),
    "hls, key.ts": (
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://HOST/key"\n#EXTINF:1,\nCANARY.ts\n#EXT-X-ENDLIST\n',
        "not media: a playlist",
    ),
    "hls, passwd.mp4": ("#EXTM3U\n#EXTINF:1,\nconcat:/etc/passwd|CANARY.ts\n", "not media: a playlist"),
    "dash.mp4": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        "<Representation><BaseURL>http://HOST/</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "not media: a text",
    ),
    "session.mp4": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video PORT RTP/AVP 96\n",
        "not media: a session",
    ),
    "rtsp.mov": ("RTSPtextrtsp://HOST/a\n", "not media: a text"),
    "asx.wmv": ('<asx version="3.0"><entry><ref href="http://HOST/a"/></entry></asx>', "not media: a text"),
    "smil.rm": ('<smil><body><video src="CANARY.mp4"/></body></smil>', "not media: a text"),
    "ram.rm": ("file://CANARY.mp4\n", "not media: a text"),
    "pls.avi": ("[playlist]\nFile1=CANARY.mp4\n", "not media: a playlist"),
    "imf.mxf": (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
        "not media: a text",
    ),
    "script.avi": ('AviSource("CANARY.mp4")\n', "not media: a text"),
    "subtitles.mp4": ("# VobSub index file, v7 (do not modify this line!)\n", "not media: a text"),
    "metadata.mp4": (";FFMETADATA1\ntitle=x\n", "not media: a text"),
    "pattern%d.mp4": ("x", "not media: a text"),
}
NAMES = (  # of good videos
    *("concat:a|b.mp4", "subfile,,start,0,end,9,,:x.mp4", "file:x.mp4", "pipe:0.mp4", "http:/x.mp4", "crypto:x.mp4"),
    *(
        "-i.mp4",
        "--overwrite.mp4",
        "new\nline.mp4",
        "a%03d.mp4",
        "*.mp4",
        "'quo\"te'.mp4",
        "\x1b[31mred.mp4",
        "$(id).mp4",
    ),
    *(os.fsdecode(b"caf\xe9 \xff.mp4"), "x" * 251 + ".mp4", "\u202egnp.mp4", "folder.mp4/x.mp4"),
)


@dataclass
class Traps:
    """A folder of traps, and what must not be touched."""

    videos: Path
    outside: Path
    expected: dict[str, str] = field(default_factory=dict)  # path → USED, or how the reason begins


def write_traps(folder: Path, *, port: int) -> Traps:
    """Make `folder`/videos, full of traps, and `folder`/outside, to which they lead."""
    traps = Traps(folder / "videos", folder / "outside")
    room = traps.videos / "class"
    room.mkdir(parents=True)
    (traps.outside / "folder").mkdir(parents=True)
    canary = traps.outside / "canary"
    for suffix in ("mp4", "ts"):
        write_video(canary.with_suffix(f".{suffix}"), flash(10, 3))
    shutil.copy(f"{canary}.mp4", traps.outside / "folder/canary.mp4")
    good = write_video(room / "good.mp4", flash(10, 6))
    traps.expected["class/good.mp4"] = USED
    for name, (text, reason) in TEXTS.items():
        text = text.replace("CANARY", str(canary)).replace("HOST", f"127.0.0.1:{port}").replace("PORT", str(port))
        (room / name).write_text(text)
        traps.expected[f"class/{name}"] = reason
    for k in range(3):
        shutil.copy(f"{canary}.ts", room / f"pattern{k}.jpg")  # what the pattern would find
    for name in NAMES:
        (room / name).parent.mkdir(exist_ok=True)
        shutil.copy(good, room / name)
        traps.expected[f"class/{name}"] = USED
    _write_reference(room, canary, traps)
    _write_links(room, canary, traps)
    os.mkfifo(room / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as end:  # its name stays
        here = os.open(room, os.O_RDONLY)  # the names of sockets are short
        end.bind(f"/proc/self/fd/{here}/socket.mp4")
        os.close(here)
    traps.expected |= dict.fromkeys(("class/pipe.mp4", "class/socket.mp4"), "unreadable: it is no regular file")
    return traps


def _write_reference(room: Path, canary: Path, traps: Traps) -> None:
    """A QuickTime file whose pictures are in the canary."""
    path = write_video(room / "reference.mov", flash(10, 3), codec="mjpeg")
    shutil.copy(path, canary.with_suffix(".mov"))
    external_reference(path, "../../outside/canary.mov")
    traps.expected["class/reference.mov"] = "corrupt: no frame can be decoded"


def _write_links(room: Path, canary: Path, traps: Traps) -> None:
    for name, target, outcome in (
        ("passwd.mp4", "/etc/passwd", "link: "),
        ("canary.mp4", f"{canary}.mp4", "link: "),
        ("relative.mp4", "../../outside/canary.mp4", "link: "),
        ("chain.mp4", "relative.mp4", "link: "),
        ("through.mp4", "../away/canary.mp4", "link: "),
        ("device.mp4", "/dev/zero", "link: "),
        ("descriptor.mp4", "/proc/self/fd/0", "link: "),
        ("nowhere.mp4", "nothing.mp4", "unreadable: "),
        ("nowhere outside.mp4", "/nothing.mp4", "link: "),
        ("loop.mp4", "loop.mp4", "unreadable: "),
        ("inside.mp4", "good.mp4", USED),
    ):
        (room / name).symlink_to(target)
        traps.expected[f"class/{name}"] = outcome
    (room.parent / "away").symlink_to("../outside")  # folders: passed over
    (room / "up").symlink_to("..")


@contextmanager
def listening() -> Iterator[tuple[int, list]]:
    """A port that nobody should call, and, at the end, who did."""
    callers: list = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1], callers
        server.setblocking(False)
        with suppress(BlockingIOError):
            callers.append(server.accept()[1])


def looks(folder: Path, *, but: Path) -> dict[str, tuple]:
    """What every file below a folder looks like, except for those below `but`."""
    paths = [folder, *(path for path in folder.rglob("*") if path != but and but not in path.parents)]
    found = {str(path): os.lstat(path) for path in paths if path != folder}
    return {path: (look.st_mode, look.st_size, look.st_mtime_ns, look.st_ctime_ns) for path, look in found.items()}


def can_trace() -> bool:
    """Whether there is strace, and it is permitted."""
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "true"], capture_output=True).returncode == 0


def tracer(log: Path) -> tuple[str, ...]:
    """The command that runs another and writes down the system calls that open, connect, start or name something."""
    calls = "open,openat,openat2,creat,connect,execve,execveat,link,linkat,symlink,symlinkat,mkdir,mkdirat"
    calls += ",unlink,unlinkat,rename,renameat,renameat2,truncate"
    return ("strace", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "4096", "-e", f"trace={calls}", "-o", str(log))


def trespasses(calls: Iterable[str], traps: Traps, *, out: Path) -> list[str]:
    """Those system calls that should not have happened."""
    compiled = [str(folder) for folder in ROOT.glob("preprocess/**/__pycache__")]  # Numba's and Python's own
    mine = (str(out.parent), *compiled, "/dev/", "/proc/")
    found = []
    for line in calls:
        call = line.partition(" ")[2].lstrip()
        if call.startswith("execve"):
            call = call.partition(", [")[0]  # without the arguments
        failed = re.search(r" = -1 ", call)
        elsewhere = str(traps.outside) in call or "AF_INET" in call or "/nothing.mp4" in call
        if elsewhere or ("/etc/passwd" in call and not failed) or "canary" in call:
            found.append(call)
        elif not failed and not re.match(r"connect|execve", call):
            named = re.findall(r'(?:\w+<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', call)
            paths = [os.path.abspath(os.path.join(folder, path)) for folder, path in named]
            if re.match(r"open", call):
                if not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE)", call):
                    continue
                paths = re.findall(r" = \d+<(.*)>", call) or paths  # what it led to, where the call is in one line
            if not all(path.startswith(mine) for path in paths):
                found.append(call)
    return found
