"""The summaries of a command line's videos, printed and written."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from tasks.events.detector import HEAD, Detector, load_detector
from tasks.events.event import as_csv
from tasks.folder import check_output, output_folder
from tasks.model import Model, load
from tasks.page.page import page_path, write_page
from tasks.sources import Named, check_keys, named_videos, open_source
from tasks.summary.evidence import gather
from tasks.summary.people import Learned, load_learned
from tasks.summary.settings import SummariseSettings
from tasks.summary.summary import Summary, budget_of, summarise
from tasks.timeline import Timeline

LONGEST = 40  # letters of a name beside a progress bar


@dataclass(frozen=True)
class Asked:
    """What is used to summarise, and what it is asked for."""

    model: Model
    detector: Detector | None
    learned: Learned | None
    streams: tuple[str, ...]
    label: str | None


def run(settings: SummariseSettings) -> int:
    """Summarise; 1 if a video could not be used, else 0.

    Raises UserError if there is nothing to do, or the run cannot do it.
    """
    check(settings)
    asked = prepare(settings)
    videos = named_videos(settings.videos, video=settings.video, parameters=asked.model.parameters)
    check_places(settings, videos)
    done, failures = [], []
    for number, one in enumerate(videos, start=1):
        try:
            place = f"{number}/{len(videos)} " if len(videos) > 1 else ""
            summary = summary_of(asked, one, settings, count=len(videos), bar=place + one_line(one.name)[-LONGEST:])
        except UserError as error:
            failures.append({"video": one.name, "error": str(error)})
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            continue
        done.append(summary)
        if not settings.json:
            show(summary)
    if settings.json:
        print(json.dumps([one.as_object() for one in done] + failures, indent=1))
    if settings.csv is not None and done:
        text = as_csv([event for one in done for event in one.as_events()])
        write_aside(settings.csv, lambda part: part.write_text(text, encoding="utf-8", errors="surrogateescape"))
    return 1 if failures else 0


def check(settings: SummariseSettings) -> None:
    """Raises UserError for what is wrong by itself."""
    if not settings.videos:
        raise UserError("no video named: give one or more files, folders or stores after the run")
    at_least(0.2, piece=settings.piece)
    budget_of(settings.share, 1.0)
    if settings.csv is not None:
        check_output(settings.csv, option="--csv")


def check_places(settings: SummariseSettings, videos: list[Named]) -> None:
    """Raises UserError, before the work, for films, pictures and pages that could not be written."""
    check_keys(videos)
    if settings.page is not None:
        page_path(settings.page, "", count=len(videos))
    for option, folder in (("--out", settings.out), ("--frames", settings.frames)):
        if folder is not None and any(isinstance(one.source, Store) for one in videos):
            raise UserError(f"{option} needs the video file, a store has small pictures alone: name the file")
    if settings.out is not None and settings.out.suffix.lower() == ".mp4":
        if len(videos) > 1:
            raise UserError(f"--out {settings.out} is one film, of one video: name a folder, without .mp4")
        check_output(settings.out, option="--out")
        if settings.out.exists() and any(Path(one.source).samefile(settings.out) for one in videos):
            raise UserError(f"--out {settings.out} is the video itself: name another file")
    elif settings.out is not None and settings.out.suffix:
        raise UserError(f"--out {settings.out}: the film is an .mp4; name it so, or name a folder")


def prepare(settings: SummariseSettings) -> Asked:
    """Load what the command line names.

    Raises UserError for a run, detector or file that cannot be used, or a query that it does not know.
    """
    detector = None
    if (settings.run / HEAD).is_file():
        detector = load_detector(settings.run, device=settings.device)
    model = detector.model if detector else load(settings.run, weights=settings.weights, device=settings.device)
    model.spacing(hop=settings.hop)
    learned = None if settings.importance is None else load_learned(settings.importance)
    query = settings.query
    if query is None or query in model.streams:
        return Asked(model, detector, learned, model.streams if query is None else (query,), None)
    known = dict.fromkeys([*model.classes, *(detector.classes if detector else ())])
    if query not in known:
        raise UserError(
            f"--query {query} is no stream ({', '.join(model.streams)}) and no class "
            f"({', '.join(known) or 'the run has none'}) of {settings.run}"
        )
    return Asked(model, detector, learned, model.streams, query)


def summary_of(asked: Asked, one: Named, settings: SummariseSettings, *, count: int, bar: str) -> Summary:
    """The summary of one video; its film, pictures and page are written.

    Raises UserError if it cannot be used.
    """
    with open_source(one.source, video=one.video, parameters=asked.model.parameters, bar=bar) as opened:
        (video,) = opened.videos
        if video.seconds <= 0:
            raise UserError(f"{one.name} has no length")
        shape = {"streams": asked.streams, "hop": settings.hop, "detector": asked.detector}
        evidence = gather(asked.model, opened.store, video, **shape, keep=True, bar=bar)
        summary = summarise(
            evidence,
            video=one.name,
            budget=budget_of(settings.share, video.seconds),
            piece=settings.piece,
            label=asked.label,
            learned=None if asked.learned is None else asked.learned.predict(evidence),
        )
        file = None if isinstance(one.source, Store) else Path(one.source)
        if settings.page is not None:
            path = page_path(settings.page, one.key, count=1)
            _write_page(path, summary, opened.store, video, evidence.times, file)
    if settings.frames is not None and file is not None:
        _write_frames(settings.frames / one.key if count > 1 else settings.frames, file, summary)
    if settings.out is not None and file is not None:
        _write_film(settings.out, one.key, file, summary)
    return summary


def show(summary: Summary) -> None:
    """Print what is kept and why."""
    part = summary.kept / summary.seconds
    pieces = len(summary.pieces)
    print(f"{summary.video}: {summary.kept:.1f} of {summary.seconds:.1f} s ({part:.1%}) in {pieces} pieces")
    rows = [[f"{one.start:.2f}", f"{one.end:.2f}", f"{one.importance:.2f}", one.reason] for one in summary.pieces]
    print_table(["start", "end", "importance", "why"], rows)


def _write_film(out: Path, key: str, file: Path, summary: Summary) -> None:
    from tasks.summary.film import write_film  # needs PyAV

    path = out if out.suffix.lower() == ".mp4" else out / f"{key}.mp4"
    with output_folder(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_film(path, file, [(one.start, one.end) for one in summary.pieces])


def _write_frames(folder: Path, file: Path, summary: Summary) -> None:
    from tasks.summary.film import write_pictures

    moments = [one.moment for one in summary.pieces]
    names = [f"{number:03d}-{moment:.2f}s.jpg" for number, moment in enumerate(moments, start=1)]
    with output_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_pictures(folder, file, moments, names=names)


def _write_page(path: Path, summary: Summary, store: Store, video: Video, times: np.ndarray, file: Path | None) -> None:
    """A page whose curve is the importance, and whose events are the pieces with their reasons."""
    at = np.minimum(times.mean(axis=1).astype(int), len(summary.scores) - 1)
    curve = np.array(summary.scores)[at, None]
    line = Timeline(summary.video, ["importance"], times, curve, streams={}, present={}, shares={})
    write_page(path, store=store, video=video, timeline=line, file=file, events=summary.as_events())
