"""Known events of a store's videos."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePath

from preprocess.common.console import plural
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from tasks.events.event import Event, read_events

BACKGROUND = "background"  # the class of a moment in which no event happens


def known_events(store: Store, table: Path) -> tuple[dict[str, list[Event]], list[str]]:
    """The events in a table by the path of their video, in the order of time, and notes for the user.

    A video may be named by its path in the store, or by any part of it that no other has. An event that ends after its
    video is cut off there.

    Raises UserError for a table that is wrong or empty, a video that the store does not have, or an event that begins
    after its video has ended.
    """
    events = read_events(table)
    if not events:
        raise UserError(f"{table} names no event")
    videos = {name: named(store, name, table) for name in dict.fromkeys(event.video for event in events)}
    found, cut = defaultdict(list), 0
    for event in sorted(events, key=lambda event: (event.start, event.end, event.label)):
        video = videos[event.video]
        if event.start >= video.seconds:
            begins = f"begins at {event.start:g} s, and the video ends at {video.seconds:.2f} s"
            raise UserError(f"{table}: an event of {event.video} {begins}")
        cut += event.end > video.seconds + 1 / store.fps
        found[video.path].append(replace(event, video=video.path, end=min(event.end, video.seconds)))
    notes = [f"{plural(cut, 'event')} of {table} cut off where the video ends"] if cut else []
    return dict(found), notes


def named(store: Store, name: str, table: Path) -> Video:
    """The video that a table means: by its path, by that without its suffix, or by a part that no other has.

    Raises UserError if there is none, or more than one.
    """
    stems = [path for path in store.columns["path"] if PurePath(path).stem == name]
    try:
        return store.find(stems[0] if len(stems) == 1 else name)
    except UserError as error:
        raise UserError(f"{table}: {error}") from error


def check_overlaps(events: Sequence[Event], *, head: str) -> None:
    """Raises UserError if two events of one video, in the order of time, overlap."""
    for before, after in pairwise(events):
        if after.start < before.end:
            raise UserError(
                f"two events of {before.video} overlap, {before.label} until {before.end:g} s and {after.label} from "
                f"{after.start:g} s on, which --head {head} cannot learn: use --head multiscale"
            )
