"""Judge a run on videos that it has not seen: every subset of its streams, from one model.

    python -m tasks.evaluate runs/NAME --data test.h5
    python -m tasks.evaluate runs/NAME --data out.h5        # the training store: only videos not trained on

Writes report.json and confusion.png into the run's folder and prints the table, with an audit of the split.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from pathlib import Path

import torch

from fusion.training.run import write_json
from preprocess.common.command import parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from streams.registry import parse_streams, subset_name, subsets
from tasks.audit import audit_run, print_audit
from tasks.metrics import confusion, score
from tasks.run import Run, check_store, choose_videos, load_run
from tasks.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings) -> dict:
    """Judge, write the report and the figure, return the report.

    Raises UserError if the run and the store do not fit.
    """
    run = load_run(settings.run, weights=settings.weights, device=settings.device)
    store = Store(settings.data)
    check_store(run, store)
    at_least(1, views=settings.views, batch=settings.batch)
    out = settings.out or run.path
    out.mkdir(parents=True, exist_ok=True)
    streams = _streams(run, settings.streams)
    videos, which = choose_videos(run, store, settings.split)
    _check_presence(videos, streams, store)
    print(f"{run.path}: {which}, {settings.views} views each")
    names = subsets(streams)
    answers = run.model.answers(store, videos, names, views=settings.views, batch=settings.batch, bar="evaluate")
    labels = torch.tensor([run.model.classes.index(video.label) for video in videos])
    report = {
        "run": str(run.path),
        "data": str(store.path),
        "which": which,
        "weights": settings.weights,
        "views": settings.views,
        "classes": run.model.classes,
        "videos": len(videos),
        "subsets": {
            name: score(answers.probabilities(name), labels, answers.answered(name), run.model.classes)
            for name in map(subset_name, names)
        },
        "audit": _audit(run, store, videos),
    }
    write_json(out / "report.json", report)
    whole = subset_name(streams)
    counts = confusion(answers.probabilities(whole), labels, answers.answered(whole))
    plot_confusion(counts, run.model.classes, out / "confusion.png", title=f"{whole}, {len(videos)} videos")
    return report | {"files": [str(out / "report.json"), str(out / "confusion.png")]}


def plot_confusion(counts: torch.Tensor, classes: list[str], path: Path, *, title: str) -> None:
    """counts: (K, K), truth by answer; drawn as shares of each true class."""
    from matplotlib.figure import Figure

    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = 3 + 0.4 * min(len(classes), 40)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    if len(classes) <= 40:  # with more, names and numbers would be illegible
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= 20:
        for row, column in (counts > 0).nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(int(counts[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    figure.colorbar(image, label="% of the class")
    write_aside(path, lambda part: figure.savefig(part, dpi=120, format="png"))


def print_report(report: dict) -> None:
    """Print the table."""
    rows = []
    for name, result in report["subsets"].items():
        rates = [f"{result[key]:.1%}" for key in ("top1", "top5", "macro_f1", "calibration_error")]
        rows.append([name, *rates, f"{result['answered']}"])
    print_table(["streams", "top-1", "top-5", "macro F1", "calibration error", "answered"], rows)
    if any(result["answered"] < result["videos"] for result in report["subsets"].values()):
        print(f"  of {report['videos']} videos; one that has none of the streams gets no answer and counts as wrong")
    if report["audit"]:
        print_audit(report["audit"])
    print("wrote " + ", ".join(report["files"]))


def _audit(run: Run, store: Store, videos: list[Video]) -> dict | None:
    """The audit of the run; None, with a note, if the store that the run was trained on is gone."""
    try:
        return audit_run(run, store, videos)
    except UserError as error:
        print(f"note: the split is not audited: {error}")
        return None


def _streams(run: Run, text: str | None) -> tuple[str, ...]:
    streams = parse_streams(text) if text else run.model.streams
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
