"""One video file as a store of its own, by the same code as many."""

from pathlib import Path

import av
from tqdm import tqdm

from preprocess.common.errors import UserError
from preprocess.common.stopwatch import Stopwatch
from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.store.locations import Locations
from preprocess.store.seal import digest
from preprocess.store.writer import StoreWriter
from preprocess.video.container import open_media
from preprocess.video.limits import Unusable
from preprocess.video.piece import extract_piece
from preprocess.video.settings import PieceSettings


def extract_video(file: Path, folder: Path, *, settings: PieceSettings, bar: str | None = None) -> Store:
    """Extract `file` into the empty `folder`. Takes about 1 GB of disk an hour; memory stays flat. `bar` names a
    progress bar of the video's seconds, on a terminal.

    Raises UserError if it is not a usable video.
    """
    if file.is_dir():
        raise UserError(f"{file} is a folder: name the videos in it")
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    piece, out, content = folder / "piece.h5", folder / "video.h5", digest(file)
    try:
        total = _promised_seconds(file, settings) if bar else None
        with tqdm(desc=bar, total=total, unit=" s of video", leave=False, disable=None if bar else True) as shown:
            facts = extract_piece(
                str(file),
                piece,
                content=content,
                settings=settings,
                watch=Stopwatch(),
                heartbeat=lambda seconds: shown.update(int(seconds) - shown.n),
            )
    except Unusable as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    locations = Locations(settings.parameters())
    locations.add_file(piece)
    with StoreWriter(out, locations=locations, scratch=folder, shard_bytes=float("inf")) as writer:
        writer.place(content)
        writer.publish([Video(**vars(facts), path=file.name)], [], notes=[])
    piece.unlink()
    return Store(out)


def _promised_seconds(file: Path, settings: PieceSettings) -> int | None:
    """The length by the container, which may be wrong: good enough for a progress bar."""
    with open_media(str(file), max_pixels=settings.limits.max_pixels) as container:
        return container.duration and max(1, container.duration // av.time_base)
