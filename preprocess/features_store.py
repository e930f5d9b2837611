"""Bring features that others extracted into a store: any number of streams, text too.

    python -m preprocess.features_store feats.npz labels.csv out.h5
    python train.py --data out.h5 --streams audio,text,visual --frames 1 --stride 1

    python -m preprocess.features_store feats.npz labels.csv out.h5 --group review --order position --context 2
    python -m preprocess.features_store new.npz - new.h5      # without labels, to ask a run: tasks.predict RUN new.h5

feats.npz holds a column of names and, for each stream, an array with a row a name, (N, D), or a sequence a name,
(N, T, D); or arrays called NAME/STREAM, (T, D) or (D,), as tasks.features writes them, also as .h5. A row that is not
a number anywhere is a stream that this sample lacks. labels.csv has the columns name,label and may have group,split;
without labels (-) the store can only be asked about. From there on it is a store like any other: heads, balancing,
ablation.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.extraction.given import Labels, Sample, read_labels, read_samples, standardised, with_context
from preprocess.extraction.given_store import write_store
from preprocess.info import print_classes, print_summary
from preprocess.store import Store


@dataclass(frozen=True)
class FeaturesStoreSettings:
    """The command line of preprocess.features_store."""

    features: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FEATURES")]
    """the .npz file of features"""
    labels: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LABELS")]
    """CSV file with the columns name,label and, if you like, group,split; - is none"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """store to write"""
    streams: tuple[str, ...] = ()
    """arrays to take, others are left; the default is every array with a row, or a sequence, a name"""
    names: str | None = None
    """array with the names; the default is the only one of texts in which none is twice"""
    group: str | None = None
    """array with the name of each sample's group: the split keeps it together, and context stays within it; the default
    is the labels' column group"""
    standardise: bool = False
    """each feature less its mean over the sample's group, divided by its deviation there: of speakers, whose voices
    differ more than their emotions do. It needs many samples of each, and no labels"""
    context: int = 0
    """each sample becomes the sequence of so many before it in its group, itself, and as many after; needs --order"""
    order: str | None = None
    """array of numbers that puts the samples of a group in order"""
    rate: float = 1.0
    """rows a second, of sequences"""
    overwrite: bool = False
    """replace OUT if it is there"""


def features_store(settings: FeaturesStoreSettings) -> Store:
    """Write the store.

    Raises UserError if the features or labels cannot be read or do not fit together, or `out` cannot be written.
    """
    at_least(0, context=settings.context)
    if not 0 < settings.rate < 1e6:
        raise UserError(f"--rate is a number of rows a second above zero, not {settings.rate}")
    if settings.out.exists() and not settings.overwrite:
        raise UserError(f"{settings.out} exists: give another name, or --overwrite to replace it")
    if not settings.out.parent.is_dir():
        raise UserError(f"cannot write {settings.out}: its folder does not exist")
    arrays = {"names": settings.names, "group": settings.group, "order": settings.order}
    samples = read_samples(settings.features, streams=settings.streams, **arrays)
    labels = {} if str(settings.labels) == "-" else read_labels(settings.labels)
    check_names(settings, samples, labels)
    groups = {one.name: one.group or (labels[one.name].group if one.name in labels else None) for one in samples}
    if settings.standardise:
        check_groups(settings, groups, option="--standardise")
        samples = standardised(samples, groups)
    if settings.context:
        check_context(settings, groups)
        samples = with_context(samples, groups, settings.context)
    write_store(settings.out, samples, labels, groups=groups, rate=settings.rate)
    return Store(settings.out)


def check_names(settings: FeaturesStoreSettings, samples: list[Sample], labels: dict[str, Labels]) -> None:
    """Raises UserError for labels of samples that are not there, or the other way round."""
    names = {sample.name for sample in samples}
    lost, bare = [name for name in labels if name not in names], [name for name in names if name not in labels]
    if lost:
        raise UserError(f"{settings.labels} names {lost[0]}, which {settings.features} has not ({len(lost)} in all)")
    if labels and bare:
        raise UserError(f"{settings.labels} does not name {min(bare)} of {settings.features} ({len(bare)} in all)")


def check_groups(settings: FeaturesStoreSettings, groups: dict[str, str | None], *, option: str) -> None:
    """Raises UserError if no sample has a group."""
    if not any(groups.values()):
        raise UserError(f"{option} needs groups: name an array with --group, or a column group in {settings.labels}")


def check_context(settings: FeaturesStoreSettings, groups: dict[str, str | None]) -> None:
    """Raises UserError if it is not known which samples are neighbours."""
    check_groups(settings, groups, option="--context")
    if settings.order is None:  # a file that is sorted by class would give it away
        raise UserError("--context needs --order ARRAY: the order of a file may tell the classes")


def main(settings: FeaturesStoreSettings | None = None) -> None:
    what = {"prog": "python -m preprocess.features_store", "doc": __doc__}
    store = features_store(settings or parse_command(FeaturesStoreSettings, **what))
    print_summary(store)
    print_classes(store)
    lengths = Counter(video.frames for video in store.videos)
    longest = max(lengths)
    print(
        f"{plural(longest, 'row')} a sample at most; train with: python train.py --data {store.path} "
        f"--streams {','.join(store.kinds)} --frames {min(longest, 16)} --stride 1"
    )


if __name__ == "__main__":
    run_command(main)
