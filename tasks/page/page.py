"""One self-contained HTML file with a video, its answers over time and its events; it works without a network."""

import base64
import os
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from tasks.events.event import Event
from tasks.page.data import embedded, events_data, timeline_data
from tasks.page.stills import flow_sheet, frame_sheet, mel_strip, still_times
from tasks.timeline import Timeline

EMBEDDED = 20e6  # bytes of a video file below which it becomes part of the page
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}
ROOM = "tasks.page"  # the package that the style lies in


def write_page(
    path: Path,
    *,
    store: Store,
    video: Video,
    timeline: Timeline,
    file: Path | None = None,
    events: Sequence[Event] = (),
    known: Sequence[Event] = (),
    embed_below: float = EMBEDDED,
) -> None:
    """Write the page.

    Args:
        store, video: what the stills are made of.
        timeline: answers over time.
        file: the video file, to be played; embedded if it is small, else linked by its path from the page. Without it,
            or where the browser cannot play it, the stills stand in.
        events, known: found and true events.
        embed_below: bytes from which a file is linked.
    """
    times = still_times(video)
    flow = flow_sheet(store, video, times)
    data = {
        "name": timeline.video,
        "seconds": video.seconds,
        "why": video.why,
        "timeline": timeline_data(timeline),
        "events": events_data(events),
        "known": events_data(known),
        "stills": {
            "times": times.round(3).tolist(),
            "frames": frame_sheet(store, video, times).data(),
            "flow": flow and flow.data(),
            "mel": mel_strip(store, video),
        },
        "source": file and address(file, path, embed_below),
        "live": False,
    }
    text = page_html(data, title=Path(timeline.video).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"))


def page_path(page: Path, video: str, *, count: int) -> Path:
    """The file of one video's page: `page` itself, if it ends with .html, else one in that folder, called `video`.

    Raises UserError if several videos are to have one page.
    """
    if page.suffix.lower() != ".html":
        return page / f"{video}.html"
    if count > 1:
        raise UserError(f"--page {page} is one page, of one video: name a folder, without .html")
    return page


def page_html(data: dict, *, title: str, room: str = ROOM) -> str:
    """The page around its data: page.html and page.js of the package `room`, in the style of all pages."""
    parts = {"style.css": _asset("style.css", ROOM), "page.js": _asset("page.js", room)}
    parts |= {"title": escape(title.encode("utf-8", "replace").decode()), "data": embedded(data)}
    # all at once: a name may look like one of the places
    return re.sub(r"\{(title|data|style\.css|page\.js)\}", lambda found: parts[found[1]], _asset("page.html", room))


def _asset(name: str, room: str) -> str:
    return (files(room) / name).read_text(encoding="utf-8")


def address(file: Path, page: Path, embed_below: float) -> str:
    """A data: address of a small file, else a relative one."""
    if file.stat().st_size < embed_below:
        kind = TYPES.get(file.suffix.lower(), "video/mp4")  # browsers look at the bytes
        return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    return quote(os.path.relpath(file, page.parent).replace(os.sep, "/"))
