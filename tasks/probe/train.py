"""Learning a probe: the penalty and the judgement by groups left out, then one of all samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError
from preprocess.extraction.given import Sample
from tasks.folder import check_output
from tasks.probe.judge import print_measures
from tasks.probe.measure import class_measures, number_measures
from tasks.probe.probe import Probe, learn, save_probe
from tasks.probe.settings import TrainProbe
from tasks.probe.table import Targets, groups_of, read_features, read_rows, read_targets

MOST_FOLDS = 10  # of the judgement; fewer groups are left out one at a time
INNER_FOLDS = 3  # of the choice of the penalty


def train_probe(settings: TrainProbe) -> Probe:
    """Learn, print the judgement, and write the probe.

    Raises UserError for what cannot be read or learned.
    """
    check_output(settings.out, option="the probe")
    if not settings.penalties or not all(0 < penalty < np.inf for penalty in settings.penalties):
        raise UserError(f"--penalties are numbers above zero, not {' '.join(map(str, settings.penalties))}")
    rows = read_rows(settings.labels)
    shape = {"streams": settings.streams, "names": settings.names, "group": settings.group}
    samples = read_features(settings.features, **shape, rows=rows, standardise=settings.standardise)
    targets = read_targets(rows, [sample.name for sample in samples], settings.targets)
    groups = groups_of(samples)
    added, constants = judged(samples, targets, groups, settings)
    found = f"{plural(len(samples), 'sample')}, {plural(groups.max() + 1, 'group')}"
    print(f"{found}; each judged by what was learned without its group:")
    print_measures(targets, added, constants, groups)
    if not any(sample.group for sample in samples):
        print("warning: no groups are known, so that samples of one speaker or video may help each other: give --group")
    penalty = choose(samples, targets, groups, settings)
    probe = learn(samples, targets, penalty=penalty, standardise=settings.standardise)
    save_probe(settings.out, probe)
    print(f"wrote {settings.out}: penalty {penalty:g}, streams {', '.join(probe.streams)}")
    return probe


def judged(
    samples: Sequence[Sample], targets: Targets, groups: np.ndarray, settings: TrainProbe
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each stream adds, stream → (N, K), and the constants, (N, K), by probes that have not learned of the group.

    The penalty is chosen within what each probe learns from.
    """
    width = len(targets.classes) or len(targets.columns)
    added = {name: np.zeros((len(samples), width)) for name in samples[0].streams}
    constants = np.zeros((len(samples), width))
    parts = list(folds(groups, MOST_FOLDS))
    for rest, left in progress(parts, unit="fold", leave=False):
        penalty = choose(*_only(samples, targets, rest), groups[rest], settings)
        probe = learn(*_only(samples, targets, rest), penalty=penalty, standardise=settings.standardise)
        for name, values in probe.added([samples[row] for row in left]).items():
            added[name][left] = values
        constants[left] = probe.constants
    return added, constants


def choose(samples: Sequence[Sample], targets: Targets, groups: np.ndarray, settings: TrainProbe) -> float:
    """The penalty that does best on groups left out: by UAR, or by the mean CCC."""
    if len(settings.penalties) == 1 or len({*groups.tolist()}) < 2:
        return settings.penalties[0]
    scores = []
    for penalty in settings.penalties:
        answers = np.zeros((len(samples), len(targets.classes) or len(targets.columns)))
        for rest, left in folds(groups, INNER_FOLDS):
            probe = learn(*_only(samples, targets, rest), penalty=penalty, standardise=settings.standardise)
            answers[left] = probe.answers(probe.added([samples[row] for row in left]), probe.streams)
        scores.append(_score(answers, targets))
    return settings.penalties[int(np.argmax(scores))]


def folds(groups: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from, and rows of whole groups that are left out.

    Raises UserError for a single group.
    """
    from sklearn.model_selection import GroupKFold

    count = len(np.unique(groups))
    if count < 2:
        raise UserError("all samples are of one group: give samples of others, or another --group")
    yield from GroupKFold(min(most, count)).split(groups, groups=groups)


def _score(answers: np.ndarray, targets: Targets) -> float:
    one = np.zeros(len(answers), int)
    if targets.classes:
        return class_measures(answers, targets.values, one)[0].value
    return float(
        np.mean([number_measures(a, t, one)[0].value for a, t in zip(answers.T, targets.values.T, strict=True)])
    )


def _only(samples: Sequence[Sample], targets: Targets, rows: np.ndarray) -> tuple[list[Sample], Targets]:
    return [samples[row] for row in rows], replace(targets, values=targets.values[rows])
