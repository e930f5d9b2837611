"""Features of videos over time, for any other program: a row a window, on one clock for all streams.

    python -m tasks.features runs/NAME new.mp4 other.avi features.h5
    python -m tasks.features runs/NAME videos/ features.h5 --length 2 --hop 0.5
    python -m tasks.features runs/NAME out.h5 features.h5 --streams rgb,audio    # the videos of a store
    python -m tasks.features runs/NAME new.mp4 features.npz                      # NumPy, for few videos

    with h5py.File("features.h5") as file:
        video = file["videos/new.mp4"]
        video["times"][:], video["rgb"][:], video["present/rgb"][:], video["fused"][:]

Killed or started again, it goes on after the last complete video; other videos are added to a file that is there.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import sys
from collections.abc import Sequence

import numpy as np

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.store.index import Video
from preprocess.store.seal import digest
from tasks.feature_file import About, FeatureFile, open_features
from tasks.folder import check_output
from tasks.model import Model, load
from tasks.settings import FeaturesSettings
from tasks.sources import Named, as_text, check_keys, named_videos, open_source
from tasks.windows import Windows

LONGEST = 40  # letters of a name beside a progress bar


def add_video(file: FeatureFile, model: Model, one: Named, settings: FeaturesSettings, *, bar: str) -> None:
    """Add a video to the file.

    Raises UserError if the video cannot be used, or has none of the streams.
    """
    streams = model.choose(settings.streams)
    with open_source(one.source, video=one.video, parameters=model.parameters, bar=bar) as opened:
        (video,) = opened.videos
        model.check_streams(video, streams)
        shape = {"length": settings.length, "hop": settings.hop, "batch": settings.batch, "keep": not opened.lasts}
        windows = model.windows(opened.store, video=video.path, bar=bar, **shape)
        arrays = (arrays_of(model, part, streams, towers=settings.towers) for part in windows)
        file.add(one.key, arrays, attributes=attributes_of(video, streams))


def arrays_of(model: Model, windows: Windows, streams: Sequence[str], *, towers: bool) -> dict[str, np.ndarray]:
    """The arrays of N windows by their names in the file; the first axis of each is N."""
    windows = model.fuse(windows, streams)
    arrays = {"times": windows.times} | {name: windows.features[name] for name in streams}
    arrays |= {f"present/{name}": windows.present[name] for name in streams}
    if towers:
        arrays |= {f"towers/{name}": windows.towers[name].mean(dim=1) for name in streams}
    if model.classes:  # without them there is no head that has learned to fuse
        arrays |= {"fused": windows.fused, "present/fused": windows.answered, "answer": windows.answer.float()}
        arrays |= {f"logits/{name}": windows.logits[name] for name in streams}
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def attributes_of(video: Video, streams: Sequence[str]) -> dict[str, str | float | int]:
    """What is known of a video."""
    found = {"content": video.content, "seconds": video.seconds, "damaged": video.damaged, "notes": video.notes}
    if video.expected is not None:
        found["expected"] = video.expected
    return found | {f"missing_{name}": video.why[name] for name in streams if name in video.why}


def is_done(file: FeatureFile, one: Named) -> bool:
    """True if the file has this very video."""
    held = file.held.get(one.key)
    if held is None:
        return False
    if one.video is not None:
        return held.content == one.source.find(one.video).content
    return one.source.is_file() and held.content == digest(one.source)


def main(settings: FeaturesSettings | None = None) -> int:
    settings = settings or parse_command(FeaturesSettings, prog="python -m tasks.features", doc=__doc__)
    if len(settings.videos) < 2:
        raise UserError("give the videos after the run, and last the file to write, as in: runs/NAME new.mp4 new.h5")
    *sources, out = settings.videos
    at_least(1, batch=settings.batch)
    check_output(out, option="the output")
    model = load(settings.run, weights=settings.weights, device=settings.device)
    length, hop = model.spacing(length=settings.length, hop=settings.hop)
    videos = named_videos(sources, video=settings.video, parameters=model.parameters)
    check_keys(videos)
    about = About(
        model=as_text(str(model.path)),
        model_digest=digest(model.path),
        model_release=model.release,
        streams=",".join(model.choose(settings.streams)),
        length=length,
        hop=hop,
        towers=settings.towers,
    )
    with open_features(out, about, classes=model.classes) as file:
        return _add_all(file, model, videos, settings)


def _add_all(file: FeatureFile, model: Model, videos: Sequence[Named], settings: FeaturesSettings) -> int:
    failed = before = added = 0
    try:
        for number, one in enumerate(videos, start=1):
            try:
                if is_done(file, one):
                    before += 1
                    continue
                bar = f"{number}/{len(videos)} {one_line(one.name)[-LONGEST:]}"
                add_video(file, model, one, settings, bar=bar)
                added += 1
            except UserError as error:
                failed += 1
                print(f"error: {one_line(str(error))}", file=sys.stderr)
    except KeyboardInterrupt as stop:
        done = f"complete are {before + added} of {plural(len(videos), 'video')}"
        raise KeyboardInterrupt(f"{done}; the same command goes on") from stop
    file.finish()
    if before + added:
        again = f", {before} of them there before" if before else ""
        print(f"{file.path} holds {plural(before + added, 'video')} of {len(videos)}{again}")
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
