"""Judging a detector on videos whose events are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion.training.run import write_json
from preprocess.common.console import print_table
from preprocess.common.errors import UserError
from preprocess.store import Store
from streams.registry import subset_name, subsets
from tasks.events.detector import load_detector, streams_of
from tasks.events.event import Event, write_events
from tasks.events.figure import draw_events
from tasks.events.labels import known_events
from tasks.events.metrics import score_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import EvaluateEvents
from tasks.folder import output_folder


def evaluate(settings: EvaluateEvents) -> dict:
    """Judge, print the table, write the files, return the report.

    Raises UserError if the detector, the store and the table do not fit.
    """
    detector = load_detector(settings.detector, device=settings.device)
    streams = streams_of(detector, settings.streams)
    store = Store(settings.data)
    events, notes = judged_events(store, settings.labels, detector.classes)
    out = settings.out or settings.detector / "judged" / store.path.stem
    with output_folder(out):
        for note in notes:
            print(f"note: {note}")
        videos = [video for video in detector.sequences(store, keep=True) if video.video in events]
        truth = [event for found in events.values() for event in found]
        found = {
            subset_name(names): [event for video in videos for event in detector.events(video, streams=names)]
            for names in subsets(streams)
        }
        report = {
            "detector": str(settings.detector),
            "data": str(store.path),
            "labels": str(settings.labels),
            "subsets": {name: score_events(truth, its) for name, its in found.items()},
        }
        out.mkdir(parents=True, exist_ok=True)
        whole = found[subset_name(streams)]
        write_events(out / "events.csv", whole)
        draw_all(out, videos, events, whole)
        write_json(out / "report.json", report)
    print_report(report)
    print(f"wrote {out}/report.json, events.csv and a picture of each video")
    return report


def judged_events(store: Store, labels: Path, classes: Sequence[str]) -> tuple[dict[str, list[Event]], list[str]]:
    """The true events by video, and notes; raises UserError for a class that was not learned."""
    events, notes = known_events(store, labels)
    unknown = sorted({event.label for found in events.values() for event in found} - set(classes))
    if unknown:
        raise UserError(
            f"{labels} has the label '{unknown[0]}', which the detector does not know: {', '.join(classes)}"
        )
    return events, notes


def draw_all(
    out: Path, videos: Sequence[VideoFeatures], events: Mapping[str, Sequence[Event]], found: Sequence[Event]
) -> None:
    """A picture of each video, with the events that are surer than chance would be drawn."""
    for video in videos:
        its = [event for event in found if event.video == video.video and event.score >= 0.2]
        path = out / f"{Path(video.video).stem}.png"
        draw_events(path, video=video.video, seconds=video.seconds, found=its, known=events[video.video])


def print_report(report: dict) -> None:
    """Print the table."""
    first = next(iter(report["subsets"].values()))
    kinds = [kind for kind in first["recall"] if kind != "all"]
    head = ["streams", "mAP 0.3–0.7", "mAP@0.5", "any class", "recall", *(f"recall {kind}" for kind in kinds)]
    rows = []
    for name, result in report["subsets"].items():
        rates = [result["mean_map"], result["map"]["0.5"], result["class_agnostic_ap"], result["recall"]["all"]]
        rates += [result["recall"][kind] for kind in kinds]
        rows.append([name, *(f"{rate:.1%}" for rate in rates), f"{result['f1']:.1%}", f"{result['segment_f1']:.1%}"])
    print_table([*head, "F1", "segment F1"], rows)
    print(f"  {first['events']} events in {first['videos']} videos; F1 of events with a score of at least one half")
