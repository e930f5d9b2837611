"""Make an index of videos, or add to one, so that tasks.search finds what is like another video.

    python -m tasks.index runs/NAME videos/ index/
    python -m tasks.index runs/NAME out.h5 index/               # the videos of a store
    python -m tasks.index runs/NAME new.mp4 index/              # one more; what is there already is not done again
    python -m tasks.index index/ --remove 'old/*'               # takes videos out again, without the run
    python -m tasks.index index/ --graph                        # for millions of windows: search by a graph

Any run serves, also one of --pretrain contrast, which needs no labels, and one with frozen pretrained towers. Killed or
started again, it goes on after the last complete video.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.store import Store
from preprocess.store.index import Video
from preprocess.store.seal import digest
from tasks.model import Model, load
from tasks.retrieval.colours import COLOURS
from tasks.retrieval.describe import Described, describe, parts_of, with_colours
from tasks.retrieval.graph import build_graphs
from tasks.retrieval.index import TABLE, About, Entry, Index, IndexWriter, open_writer, read_about
from tasks.retrieval.settings import IndexSettings
from tasks.retrieval.stills import middle_pictures, small_still
from tasks.sources import Named, as_text, check_keys, named_videos, open_source
from tasks.windows import Windows

Added = tuple[Video, Described, list[bytes]]  # a video, its windows, and a still of each


def described(model: Model, about: About, store: Store, videos: Sequence[Video], *, keep: bool) -> Iterator[Added]:
    """The windows of a store's videos, one video after the other, from one pass over all of them.

    Raises UserError if the store cannot be read.
    """
    chosen, held = [video for video in videos if any(video.streams[name] for name in model.streams)], []
    for windows in model.of_videos(store, chosen, length=about.length, hop=about.hop, keep=keep):
        for row in windows.rows.unique().tolist():  # in the order of time
            if held and held[0][0] != row:
                yield _joined(model, about, store, chosen, held)
                held = []
            held.append((row, windows.only(windows.rows == row)))
    if held:
        yield _joined(model, about, store, chosen, held)


def _joined(
    model: Model, about: About, store: Store, videos: Sequence[Video], held: list[tuple[int, Windows]]
) -> Added:
    video = videos[held[0][0]]
    found = describe(model, (windows for _, windows in held), about.parts)
    pictures = middle_pictures(store, video, found.times)
    found = with_colours(found, pictures) if COLOURS in about.parts else found
    return video, found, [small_still(picture) for picture in pictures]


def add_file(writer: IndexWriter, model: Model, one: Named) -> None:
    """Add a video file to an index made by this model.

    Raises UserError if the video cannot be used, or has none of the model's streams.
    """
    with open_source(one.source, video=None, parameters=model.parameters) as opened:
        model.check_streams(opened.videos[0], model.streams)
        for video, windows, stills in described(model, writer.about, opened.store, opened.videos, keep=True):
            facts = {"content": video.content, "source": as_text(str(one.source)), "seconds": video.seconds}
            writer.add(one.key, windows=windows, stills=stills, **facts)


def add_store(writer: IndexWriter, model: Model, store: Store, wanted: Sequence[Named], bar: tqdm) -> int:
    """Add videos of a store; return how many lack all streams of the model."""
    keys = {one.video: one.key for one in wanted}
    videos = [video for video in store.videos if video.path in keys]
    added = 0
    for video, windows, stills in described(model, writer.about, store, videos, keep=False):
        facts = {"content": video.content, "source": as_text(str(store.path.absolute())), "seconds": video.seconds}
        writer.add(keys[video.path], windows=windows, stills=stills, **facts)
        added += 1
        bar.update()
    return len(videos) - added


def about_index(model: Model, settings: IndexSettings) -> About:
    """How the settings describe windows."""
    at_least(1, size=settings.size)
    length, _ = model.spacing(length=settings.length)
    length, hop = model.spacing(length=settings.length, hop=settings.hop or length / 2)
    return About(
        model=as_text(str(model.path.absolute())),
        model_digest=digest(model.path),
        model_release=model.release,
        length=length,
        hop=hop,
        size=settings.size,
        parts=parts_of(model, settings.size),
    )


def main(settings: IndexSettings | None = None) -> int:
    settings = settings or parse_command(IndexSettings, prog="python -m tasks.index", doc=__doc__)
    if settings.remove or settings.remove_missing:
        return remove(settings)
    if settings.graph and not settings.videos:
        return make_graphs(settings.run)
    if len(settings.videos) < 2:
        raise UserError("give the videos after the run, and last the folder of the index, as in: RUN videos/ index/")
    *sources, folder = settings.videos
    model = load(settings.run, weights=settings.weights, device=settings.device)
    about = about_index(model, settings)
    videos = named_videos(sources, parameters=model.parameters)
    check_keys(videos)
    with open_writer(folder, about) as writer, tqdm(desc="index", unit="video", leave=False, disable=None) as bar:
        before = len(writer.videos)
        try:
            failed = _add_all(writer, model, videos, bar)
        except KeyboardInterrupt as stop:
            added = plural(len(writer.videos) - before, "video")
            raise KeyboardInterrupt(f"{added} added; the same command goes on") from stop
        print(f"{_holds(writer)}; {len(writer.videos) - before} added, {failed} not used")
        if settings.graph:
            build_graphs(writer)
    return 1 if failed else 0


def make_graphs(folder: Path) -> int:
    """Make the graphs of an index that stands in the run's place: no run is needed."""
    with open_writer(folder, read_about(folder)) as writer:
        build_graphs(writer)
        print(f"{_holds(writer)}; its graphs know all of them")
    return 0


def remove(settings: IndexSettings) -> int:
    """Take videos out of the index that stands in the run's place: no run is needed.

    Raises UserError for a pattern that no video matches, or videos to add.
    """
    if settings.videos:
        raise UserError("videos are removed from an index alone, without a run: INDEX --remove PATTERN")
    folder = settings.run
    with open_writer(folder, read_about(folder)) as writer:
        removed = to_remove(writer, settings)
        writer.remove(removed)
        for video in removed:
            print(f"removed {one_line(video.path)}")
        print(f"{_holds(writer)}; {len(removed)} removed")
        if settings.graph:
            build_graphs(writer)
    return 0


def _holds(index: Index) -> str:
    windows = sum(video.windows for video in index.held)
    return f"{index.folder} holds {plural(len(index.held), 'video')}, {plural(windows, 'window')}"


def to_remove(index: Index, settings: IndexSettings) -> list[Entry]:
    """The videos of an index that the settings take out.

    Raises UserError for a pattern that no video matches.
    """
    chosen = {video.begin: video for pattern in settings.remove for video in _matching(index, pattern)}
    if settings.remove_missing:
        chosen |= {video.begin: video for video in index.held if not Path(video.source).exists()}
    return list(chosen.values())


def _matching(index: Index, pattern: str) -> list[Entry]:
    found = [video for video in index.held if fnmatchcase(video.path, pattern)]
    if not found:
        raise UserError(f"--remove {pattern}: no video of {index.folder} has such a path: see {index.folder / TABLE}")
    return found


def _add_all(writer: IndexWriter, model: Model, videos: Sequence[Named], bar: tqdm) -> int:
    """Add what is not there yet; return how many could not be used."""
    held, failed = {video.content for video in writer.held}, 0
    stores = {id(one.source): one.source for one in videos if one.video is not None}
    contents = {(key, video.path): video.content for key, store in stores.items() for video in store.videos}
    new: dict[str, Named] = {}
    for one in videos:
        content = contents.get((id(one.source), one.video)) or _content(one)
        if content not in held:
            new.setdefault(content, one)
    bar.reset(total=len(new))
    for store in stores.values():
        failed += add_store(writer, model, store, [one for one in new.values() if one.source is store], bar)
    for one in (one for one in new.values() if one.video is None):
        try:
            add_file(writer, model, one)
        except UserError as error:
            failed += 1
            tqdm.write(f"error: {one_line(str(error))}", file=sys.stderr)
        bar.update()
    return failed


def _content(one: Named) -> str:
    """The digest of a video's file; its name, if it cannot be read."""
    return digest(one.source) if one.source.is_file() else one.name


if __name__ == "__main__":
    run_command(main)
