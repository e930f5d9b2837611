"""The table of a probe's measures, for every subset of its streams."""

from collections.abc import Mapping

import numpy as np

from preprocess.common.console import print_table
from streams.registry import in_order, subset_name, subsets
from tasks.probe.measure import Measure, class_measures, number_measures
from tasks.probe.table import Targets

MOST_STREAMS = 4  # of which every subset is shown; of more all of them together


def print_measures(
    targets: Targets, added: Mapping[str, np.ndarray], constants: np.ndarray, groups: np.ndarray
) -> dict[str, list[list[Measure]]]:
    """subset → its measures of each target. added: stream → (N, K); constants: (K,) or (N, K)."""
    names = in_order(added)
    chosen = subsets(names) if len(names) <= MOST_STREAMS else [names]
    found = {}
    for streams in chosen:
        answers = constants + sum(added[name] for name in streams)
        if targets.classes:
            found[subset_name(streams)] = [class_measures(answers, targets.values, groups)]
        else:
            columns = zip(answers.T, targets.values.T, strict=True)
            found[subset_name(streams)] = [number_measures(*pair, groups) for pair in columns]
    heads = [one.name for one in next(iter(found.values()))[0]]
    rows = [
        [name, column, *map(str, measures)]
        for name, each in found.items()
        for column, measures in zip(targets.columns, each, strict=True)
    ]
    print_table(["streams", "target", *heads], rows)
    if targets.classes:
        print(f"  one and the same answer to all has a UAR of {1 / len(targets.classes):.3f}", end="; ")
    else:
        print("  one and the same answer to all has a CCC of 0", end="; ")
    print("intervals of 95 % are over groups")
    return found
