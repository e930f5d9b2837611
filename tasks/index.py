"""Make an index of videos, or add to one, so that tasks.search finds what is like another video.

    python -m tasks.index runs/NAME videos/ index/
    python -m tasks.index runs/NAME out.h5 index/               # the videos of a store
    python -m tasks.index runs/NAME new.mp4 index/              # one more; what is there already is not done again

Any run serves, also one of --pretrain contrast, which needs no labels, and one with frozen pretrained towers. Killed or
started again, it goes on after the last complete video.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import sys

from tqdm import tqdm

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.store.seal import digest
from tasks.model import Model, load
from tasks.retrieval.describe import describe, parts_of
from tasks.retrieval.index import About, IndexWriter, open_writer
from tasks.retrieval.settings import IndexSettings
from tasks.retrieval.stills import small_stills
from tasks.sources import Named, as_text, check_keys, named_videos, open_source


def add_video(writer: IndexWriter, model: Model, one: Named) -> None:
    """Add a video to an index made by this model.

    Raises UserError if the video cannot be used, or has none of the model's streams.
    """
    about = writer.about
    with open_source(one.source, video=one.video, parameters=model.parameters) as opened:
        (video,) = opened.videos
        model.check_streams(video, model.streams)
        shape = {"length": about.length, "hop": about.hop, "keep": not opened.lasts}
        windows = model.windows(opened.store, video=video.path, **shape)
        described = describe(model, windows, about.parts)
        stills = small_stills(opened.store, video, described.times)
    where = one.source.path if one.video is not None else one.source
    facts = {"content": video.content, "source": as_text(str(where)), "seconds": video.seconds}
    writer.add(one.key, windows=described, stills=stills, **facts)


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
    if len(settings.videos) < 2:
        raise UserError("give the videos after the run, and last the folder of the index, as in: RUN videos/ index/")
    *sources, folder = settings.videos
    model = load(settings.run, weights=settings.weights, device=settings.device)
    about = about_index(model, settings)
    videos = named_videos(sources, parameters=model.parameters)
    check_keys(videos)
    failed = added = 0
    with open_writer(folder, about) as writer:
        held = {video.content for video in writer.videos}
        try:
            for one in tqdm(videos, desc="index", unit="video", leave=False, disable=None):
                try:
                    if _content(one) not in held:
                        add_video(writer, model, one)
                        added += 1
                except UserError as error:
                    failed += 1
                    tqdm.write(f"error: {one_line(str(error))}", file=sys.stderr)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{plural(added, 'video')} added; the same command goes on") from stop
        windows = plural(len(writer), "window")
        print(f"{folder} holds {plural(len(writer.videos), 'video')}, {windows}; {added} added, {failed} not used")
    return 1 if failed else 0


def _content(one: Named) -> str | None:
    """The digest of a video's file; None if it cannot be read."""
    if one.video is not None:
        return one.source.find(one.video).content
    return digest(one.source) if one.source.is_file() else None


if __name__ == "__main__":
    run_command(main)
