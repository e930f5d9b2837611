"""Bring features that others extracted into a store: any number of streams, text too.

    python -m preprocess.features_store feats.npz labels.csv out.h5
    python train.py --data out.h5 --streams audio,text,visual --frames 1 --stride 1

feats.npz holds a column of names and, for each stream, an array with a row a name, (N, D), or a sequence a name,
(N, T, D); or arrays called NAME/STREAM, (T, D) or (D,), as tasks.features writes them. A row that is not a number
anywhere is a stream that this sample lacks. labels.csv has the columns name,label and may have group,split; without
labels (-) the store can only be asked about. From there on it is a store like any other: heads, balancing, ablation.
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
from preprocess.extraction.given import Labels, Sample, read_labels, read_samples, with_context
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
    context: int = 0
    """beside each sample's features the mean of those of so many before and after it in its group"""
    order: str | None = None
    """array of numbers that puts the samples of a group in order; the default is the order of the file"""
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
    samples = read_samples(settings.features, streams=settings.streams, names=settings.names, order=settings.order)
    labels = {} if str(settings.labels) == "-" else read_labels(settings.labels)
    check_names(settings, samples, labels)
    if settings.context:
        groups = {name: one.group for name, one in labels.items()}
        samples = with_context(samples, groups, settings.context)
    write_store(settings.out, samples, labels, rate=settings.rate)
    return Store(settings.out)


def check_names(settings: FeaturesStoreSettings, samples: list[Sample], labels: dict[str, Labels]) -> None:
    """Raises UserError for labels of samples that are not there, or the other way round."""
    names = {sample.name for sample in samples}
    lost, bare = [name for name in labels if name not in names], [name for name in names if name not in labels]
    if lost:
        raise UserError(f"{settings.labels} names {lost[0]}, which {settings.features} has not ({len(lost)} in all)")
    if labels and bare:
        raise UserError(f"{settings.labels} does not name {min(bare)} of {settings.features} ({len(bare)} in all)")
    if settings.context and not any(one.group for one in labels.values()):
        raise UserError(f"--context goes by the column group, which {settings.labels} has not")


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
