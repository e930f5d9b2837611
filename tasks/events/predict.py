"""Events of new videos, as tables, subtitles and pictures."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError
from preprocess.store import Store
from tasks.events.curves import curves
from tasks.events.detector import Detector, load_detector, streams_of
from tasks.events.event import Event, write_events
from tasks.events.figure import draw_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import PredictEvents
from tasks.folder import output_folder
from tasks.page.page import page_path, write_page
from tasks.sources import PathLike, files_of, open_source


def predict(settings: PredictEvents) -> int:
    """Find events, print and write them; 1 if a video could not be used, else 0.

    Raises UserError if there is nothing to do, or the detector cannot do it.
    """
    if not settings.videos:
        raise UserError("no video named: give one or more files, folders or stores after the detector")
    if not 0 <= settings.least <= 1:
        raise UserError(f"--least is a score between 0 and 1, not {settings.least}")
    if settings.page:
        page_path(settings.page, "", count=len([*sources(settings)]))
    detector = load_detector(settings.detector, device=settings.device)
    streams = streams_of(detector, settings.streams)
    found, failures = [], 0
    with output_folder(settings.out):
        for source in sources(settings):
            try:
                found += _events_of(detector, source, streams, settings)
            except UserError as error:
                failures += 1
                print(f"error: {error}", file=sys.stderr)
        if found or not failures:
            settings.out.mkdir(parents=True, exist_ok=True)
            for name in ("events.csv", "events.json"):
                write_events(settings.out / name, found)
            print(f"wrote {settings.out}/events.csv, events.json, and for each video subtitles and a picture")
    return 1 if failures else 0


def sources(settings: PredictEvents) -> Iterator[PathLike | Store]:
    """The files and stores, those in folders one by one."""
    for video in settings.videos:
        yield from files_of(video)


def _events_of(
    detector: Detector, source: PathLike | Store, streams: tuple[str, ...], settings: PredictEvents
) -> list[Event]:
    """The events of a file or a store, printed and drawn."""
    found = []
    with open_source(source, video=None, parameters=detector.model.parameters, bar=str(source)) as opened:
        if settings.page:
            page_path(settings.page, "", count=len(opened.videos))
        for row, video in enumerate(detector.sequences(opened.store, keep=True, bar="windows")):
            video = replace(video, video=str(opened.names[row]))
            events = detector.events(video, streams=streams)
            _show(detector, video, events, streams, settings)
            found += events
            if settings.page:
                path = page_path(settings.page, video.video, count=1)
                write_page(
                    path,
                    store=opened.store,
                    video=opened.videos[row],
                    timeline=curves(detector, video, streams, length=detector.length),
                    file=None if opened.lasts else Path(source),
                    events=[event for event in events if event.score >= settings.least],
                )
                print(f"  {path}: open it in a browser")
    return found


def _show(
    detector: Detector, video: VideoFeatures, events: list[Event], streams: tuple[str, ...], settings: PredictEvents
) -> None:
    """One video's events, printed and drawn."""
    sure = sorted((event for event in events if event.score >= settings.least), key=lambda event: event.start)
    seen = [name for name in streams if video.present[name].any()]
    missing = [name for name in streams if name not in seen]
    without = f" (no {', '.join(missing)})" if missing else ""
    print(f"{video.video}: {video.seconds:.1f} s, from {', '.join(seen)}{without}; {plural(len(sure), 'event')}")
    rows = [[f"{event.start:.2f}", f"{event.end:.2f}", event.label, f"{event.score:.0%}"] for event in sure]
    if rows:
        print_table(["start", "end", "event", "score"], rows)
    settings.out.mkdir(parents=True, exist_ok=True)
    name = settings.out / Path(video.video).name
    write_events(name.with_suffix(".vtt"), sure)
    draw_events(name.with_suffix(".png"), video=name.name, seconds=video.seconds, found=sure)
