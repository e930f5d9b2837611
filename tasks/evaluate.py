"""Judge a run on videos that it has not seen: every subset of its streams, from one model.

    python -m tasks.evaluate runs/NAME --data test.h5
    python -m tasks.evaluate runs/NAME --data out.h5        # the training store: only videos not trained on

Prints the table, with an audit of the split, and writes report.json, predictions.csv (every video's probabilities) and
the confusion matrix, confusion.csv and confusion.png. Each store, split and choice of weights has its own folder in the
run's; the same command writes the same files.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import torch

from fusion.training.run import write_json
from fusion.training.transfer import sha256_of
from preprocess.common.command import parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from preprocess.store.index import Video
from streams.registry import parse_streams, subset_name, subsets
from tasks.audit import audit_run, print_audit
from tasks.bootstrap import paired_bootstrap, units_of
from tasks.confusion import plot_confusion, write_confusion
from tasks.folder import output_folder
from tasks.metrics import confusion, score
from tasks.probabilities import Probabilities, write_predictions
from tasks.run import Run, check_store, choose_videos, chosen_on, load_run
from tasks.settings import EvaluateSettings

FILES = ("report.json", "predictions.csv", "confusion.csv", "confusion.png")


def evaluate(settings: EvaluateSettings) -> dict:
    """Judge, write the files, return the report.

    Raises UserError if the run and the store do not fit.
    """
    run = load_run(settings.run, weights=settings.weights, device=settings.device)
    store = Store(settings.data)
    check_store(run, store)
    at_least(1, views=settings.views, batch=settings.batch)
    streams = _streams(run, settings.streams)
    videos, which = choose_videos(run, store, settings.split)
    _check_presence(videos, streams, store)
    out = settings.out or default_folder(run, store, settings, streams)
    with output_folder(out):
        print(f"{run.path}: {which}, {settings.views} views each")
        names = subsets(streams)
        answers = run.model.answers(store, videos, names, views=settings.views, batch=settings.batch, bar="evaluate")
        found = {name: Probabilities.of(answers, name) for name in map(subset_name, names)}
        classes = run.model.classes
        labels = torch.tensor([classes.index(video.label) for video in videos])
        report = {
            "run": str(run.path),
            "data": str(store.path),
            "which": which,
            "weights": settings.weights,
            "weights_sha256": sha256_of(run.model.path),
            "chosen_on": chosen_on(run, videos),  # how many of the videos the weights were chosen on
            "views": settings.views,
            "classes": classes,
            "videos": len(videos),
            "subsets": {name: _scores(one, labels, classes, units_of(videos)) for name, one in found.items()},
            "audit": _audit(run, store, videos),
        }
        whole = subset_name(streams)
        counts = confusion(found[whole].probabilities, labels, found[whole].answered)
        out.mkdir(parents=True, exist_ok=True)
        plot_confusion(counts, classes, out / "confusion.png", title=f"{whole}, {len(videos)} videos")
        write_confusion(counts, classes, out / "confusion.csv")
        write_predictions(out / "predictions.csv", videos, classes, [({"streams": n}, p) for n, p in found.items()])
        write_json(out / "report.json", report)
    return report | {"files": [str(out / name) for name in FILES]}


def default_folder(run: Run, store: Store, settings: EvaluateSettings, streams: tuple[str, ...]) -> Path:
    """A folder in the run's for these settings and this content of the store: another store, split, choice of weights,
    streams or views has another.
    """
    decides = f"{store.digest} {subset_name(streams)} {settings.views}"
    digest = blake2b(decides.encode(), digest_size=4).hexdigest()
    return run.path / "judged" / f"{store.path.stem}-{settings.split}-{settings.weights}-{digest}"


def print_report(report: dict) -> None:
    """Print the table."""
    rows = []
    for name, result in report["subsets"].items():
        rates = [f"{result[key]:.1%}" for key in ("top1", "top5", "uar", "macro_f1", "calibration_error")]
        rows.append([name, *rates, f"{result['answered']}"])
    print_table(["streams", "top-1", "top-5", "UAR", "macro F1", "calibration error", "answered"], rows)
    if any(result["answered"] < result["videos"] for result in report["subsets"].values()):
        print(f"  of {report['videos']} videos; one that has none of the streams gets no answer and counts as wrong")
    if report["chosen_on"]:
        on = "these videos" if report["chosen_on"] == report["videos"] else f"{report['chosen_on']} of these videos"
        print(f"warning: the best weights were chosen on {on}, which favours the run: judge others, or --weights last")
    if report["audit"]:
        print_audit(report["audit"])
    print("wrote " + ", ".join(report["files"]))


def _scores(found: Probabilities, labels: torch.Tensor, classes: list[str], units: list[int]) -> dict:
    """The metrics, and the interval of top-1 over other groups of videos."""
    interval = paired_bootstrap(found.right(labels).astype(float), units)
    return score(found.probabilities, labels, found.answered, classes) | {"interval": asdict(interval)}


def _audit(run: Run, store: Store, videos: list[Video]) -> dict | None:
    """The audit of the run; None, with a note, if the store that the run was trained on is gone."""
    try:
        return audit_run(run, store, videos)
    except UserError as error:
        print(f"note: the split is not audited: {error}")
        return None


def _streams(run: Run, text: str | None) -> tuple[str, ...]:
    streams = parse_streams(text, None) if text else run.model.streams
    missing = [name for name in streams if name not in run.model.streams]
    if missing:
        raise UserError(f"{run.path} was not trained on {missing[0]}: its streams are {', '.join(run.model.streams)}")
    return streams


def _check_presence(videos: list[Video], streams: tuple[str, ...], store: Store) -> None:
    """Raises UserError for a stream that no video has: its column would hold only zeros."""
    for name in streams:
        if not any(video.streams[name] for video in videos):
            rest = ",".join(other for other in streams if other != name)
            what = f"judge without it, with --streams {rest}" if rest else "give another store with --data"
            raise UserError(f"no video of {store.path} to judge has {name} ({videos[0].why[name]}): {what}")


def main(settings: EvaluateSettings | None = None) -> None:
    settings = settings or parse_command(EvaluateSettings, prog="python -m tasks.evaluate", doc=__doc__)
    print_report(evaluate(settings))


if __name__ == "__main__":
    run_command(main)
