"""What each stream is worth for finding events: a detector for each subset, and the controls."""

from collections.abc import Mapping, Sequence

import numpy as np

from fusion.training.run import write_json
from preprocess.common.console import markdown_table, plural, progress
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from preprocess.store import Store
from streams.registry import subset_name, subsets
from tasks.events.decode import mean_points
from tasks.events.detector import found_events, points
from tasks.events.evaluate import judged_events
from tasks.events.event import Event, write_events
from tasks.events.heads import TemporalHead
from tasks.events.lead import judged, lead, resampled
from tasks.events.metrics import score_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import AblateEvents
from tasks.events.train import check_recipe, gather, training_events
from tasks.events.training import train_head
from tasks.folder import output_folder
from tasks.model import load

OWN, JOINT, MEAN = "trained on these", "model of all, rest taken away", "mean of separate models"


Found = dict[tuple[str, str], list[list[Event]]]  # subset and method → the events of each seed


def ablate(settings: AblateEvents) -> dict[tuple[str, str], list[dict]]:
    """Train, judge, print and write the table; return score_events of each seed by subset and method.

    Raises UserError for stores and tables that do not fit, or videos that are in both.
    """
    check_recipe(settings.head)
    at_least(1, seeds=settings.seeds)
    store, test = Store(settings.data), Store(settings.test_data)
    events, notes = training_events(store, settings.labels, settings.head)
    classes = sorted({event.label for found in events.values() for event in found})
    true, more = judged_events(test, settings.test_labels, classes)
    refuse_seen(store, test, events, true)
    with output_folder(settings.out):
        for note in notes + more:
            print(f"note: {note}")
        model = load(settings.init, device=settings.device)
        videos = gather(model, store, events, settings.head)
        tests = gather(model, test, true, settings.head)
        truth = [event for found in true.values() for event in found]
        found: Found = {}
        names = subsets(model.streams)
        for seed in range(settings.seeds):
            learned = {"classes": classes, "recipe": settings.head, "seed": seed}
            bar = progress(names, unit="detector", name=f"seed {seed}", leave=False)
            heads = {some: train_head(videos, events, streams=some, **learned) for some in bar}
            for some in names:
                methods = {OWN: [(heads[some], some)]}
                if len(some) < len(model.streams):
                    methods[JOINT] = [(heads[model.streams], some)]
                if len(some) > 1:
                    methods[MEAN] = [(heads[(one,)], (one,)) for one in some]
                for method, parts in methods.items():
                    found.setdefault((subset_name(some), method), []).append(answer(parts, tests, classes))
        scores = {key: [score_events(truth, its) for its in runs] for key, runs in found.items()}
        text = report(scores, found, truth, whole=subset_name(model.streams))
        settings.out.mkdir(parents=True, exist_ok=True)
        write_aside(settings.out / "table.md", lambda part: part.write_text(text, encoding="utf-8"))
        rows = [{"streams": some, "method": method, "seeds": its} for (some, method), its in scores.items()]
        write_json(settings.out / "ablation.json", {"settings": settings, "scores": rows})
        for (some, method), runs in found.items():
            for seed, its in enumerate(runs if method == OWN else ()):
                write_events(settings.out / f"{some}-{seed}.csv", its)
    print(text)
    print(f"wrote {settings.out}/table.md, ablation.json, and the events of each subset's detectors")
    return scores


def answer(
    parts: Sequence[tuple[TemporalHead, Sequence[str]]], videos: Sequence[VideoFeatures], classes: Sequence[str]
) -> list[Event]:
    """The events that several heads find together, each from its own streams: the mean of what they say.

    A head none of whose streams a video has says nothing there.
    """
    found = []
    for video in videos:
        said = [points(head, video.of(some)) for head, some in parts if any(video.present[name].any() for name in some)]
        if said:
            found += found_events(mean_points(said), video, classes)
    return found


def refuse_seen(store: Store, judged: Store, events: Mapping[str, object], true: Mapping[str, object]) -> None:
    """Raises UserError if a video that is learned from is judged."""
    learned = {video.content for video in store.videos if video.path in events}
    for video in judged.videos:
        if video.path in true and video.content in learned:
            raise UserError(f"{video.path} of {judged.path} is also learned from: judge other videos")


def report(
    scores: Mapping[tuple[str, str], Sequence[dict]], found: Found, truth: Sequence[Event], *, whole: str
) -> str:
    """The table as Markdown, and the lead of all streams over every other way, with its interval."""
    kinds = [kind for kind in scores[whole, OWN][0]["recall"] if kind != "all"]
    rows = []
    for (some, method), runs in scores.items():
        values = [[one["mean_map"] for one in runs], [one["map"]["0.5"] for one in runs]]
        values += [[one["recall"][kind] for one in runs] for kind in ("all", *kinds)]
        rows.append([some, method, *map(percent, values), percent([one["segment_f1"] for one in runs])])
    head = ["streams", "", "mAP 0.3–0.7", "mAP@0.5", "recall", *(f"recall {kind}" for kind in kinds), "segment F1"]
    drawn = {key: resampled([judged(truth, its) for its in runs]) for key, runs in found.items()}
    videos = len({event.video for event in truth})
    leads = []
    for (some, method), theirs in drawn.items():
        if (some, method) != (whole, OWN):
            ahead = lead(drawn[whole, OWN], theirs, videos=videos)
            bounds = "–" if ahead.low is None else f"{points_of(ahead.low)} to {points_of(ahead.high)}"
            leads.append([f"{some}, {method}", points_of(ahead.mean), bounds])
    seeds = plural(len(scores[whole, OWN]), "seed")
    return "\n".join(
        [
            markdown_table(head, rows),
            f"In %, {seeds}, mean ± standard deviation over them; {plural(len(truth), 'event')}.\n",
            markdown_table([f"{whole} less", "points of mAP", "95 % interval"], leads),
            "Intervals are over draws of the judged videos with repetition.\n",
        ]
    )


def percent(values: Sequence[float]) -> str:
    """0.5, 0.7 → '60.0 ± 14.1'"""
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def points_of(value: float) -> str:
    """0.051 → '+5.1'"""
    return f"{100 * value:+.1f}".replace("-", "−")
