"""A probe's answers: as a table, or judged."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.extraction.given import Sample
from tasks.folder import check_output
from tasks.probe.judge import print_measures
from tasks.probe.measure import Measure
from tasks.probe.probe import Probe, load_probe
from tasks.probe.settings import EvaluateProbe, PredictProbe
from tasks.probe.table import groups_of, read_features, read_rows, read_targets


def predict(settings: PredictProbe) -> None:
    """Write or print the answers: name and, of classes, the best and the probability of each, else the numbers.

    Raises UserError for what cannot be read, or does not fit the probe.
    """
    if settings.csv is not None:
        check_output(settings.csv, option="--csv")
    probe = load_probe(settings.probe)
    unknown = [name for name in settings.streams if name not in probe.streams]
    if unknown:
        raise UserError(f"the probe has no stream {unknown[0]}: it has {', '.join(probe.streams)}")
    chosen = settings.streams or probe.streams
    shape = {"names": settings.names, "group": settings.group, "rows": None, "standardise": probe.standardise}
    samples = read_features(settings.features, streams=chosen, **shape)
    text = as_csv(probe, samples, probe.answers(probe.added(samples), chosen))
    if settings.csv is None:
        print(text, end="")
        return
    write_aside(settings.csv, lambda part: part.write_text(text, encoding="utf-8", newline=""))
    print(f"wrote {settings.csv}")


def evaluate(settings: EvaluateProbe) -> dict[str, list[list[Measure]]]:
    """Print how well the probe answers, for every subset of its streams.

    Raises UserError for what cannot be read, or does not fit the probe.
    """
    probe = load_probe(settings.probe)
    rows = read_rows(settings.labels)
    shape = {"names": settings.names, "group": settings.group, "rows": rows, "standardise": probe.standardise}
    samples = read_features(settings.features, streams=probe.streams, **shape)
    targets = read_targets(rows, [sample.name for sample in samples], probe.columns, probe.classes)
    seen = {*probe.learned} & {sample.name for sample in samples}
    if seen:
        print(f"warning: the probe has learned from {len(seen)} of these, such as {min(seen)}, which favours it")
    return print_measures(targets, probe.added(samples), probe.constants, groups_of(samples))


def as_csv(probe: Probe, samples: Sequence[Sample], answers: np.ndarray) -> str:
    """The table. answers: (N, K)."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if not probe.classes:
        table.writerow(["name", *probe.columns])
        table.writerows([one.name, *(f"{v:.4f}" for v in row)] for one, row in zip(samples, answers, strict=True))
        return text.getvalue()
    table.writerow(["name", *probe.columns, *(f"score_{name}" for name in probe.classes)])
    share = np.exp(answers - answers.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    for one, row in zip(samples, share, strict=True):
        table.writerow([one.name, probe.classes[row.argmax()], *(f"{value:.4f}" for value in row)])
    return text.getvalue()
