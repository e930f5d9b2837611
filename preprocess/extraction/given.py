"""Features that others extracted, read from their files: one sample after the other, with its streams."""

import csv
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.extraction.sources import SPLITS
from preprocess.store.format import STREAM_NAME

NOT_GIVEN = "not given"


@dataclass(frozen=True)
class Sample:
    """One sample: what a video is elsewhere."""

    name: str
    streams: Mapping[str, np.ndarray | None]  # stream → (T, D) float32, or None where it is absent


@dataclass(frozen=True)
class Labels:
    """What a table says of a sample."""

    label: str
    group: str | None
    split: str | None


def read_samples(
    path: Path, *, streams: Sequence[str] = (), names: str | None = None, order: str | None = None
) -> list[Sample]:
    """The samples of an archive of NumPy arrays, in its order or that of an array; all have the same streams.

    Raises UserError if it cannot be read, or does not hold what is asked for.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no .npz file of plain arrays ({error}): write one with numpy.savez") from error
    samples = _by_name(path, arrays, streams) if any("/" in name for name in arrays) else None
    samples = samples or _by_row(path, arrays, streams, names)
    if order is not None:
        by = arrays.get(order)
        if by is None or by.ndim != 1 or by.dtype.kind not in "fiu" or len(by) != len(samples):
            raise UserError(f"{path} has no array '{order}' of a number a sample to order them by")
        samples = [samples[row] for row in np.argsort(by, kind="stable")]
    for name in samples[0].streams:
        if not STREAM_NAME.fullmatch(name):
            raise UserError(f"{path}: '{name}' is no name of a stream: use small letters, digits and _, or --streams")
        sizes = {array.shape[1] for sample in samples if (array := sample.streams[name]) is not None}
        if len(sizes) != 1:
            has = f"features of {min(sizes)} and of {max(sizes)} numbers" if sizes else "no features at all"
            raise UserError(f"{path}: {name} has {has}: give one size, or leave it out with --streams")
    return samples


def read_labels(path: Path) -> dict[str, Labels]:
    """The labels of samples by their names.

    Raises UserError for a table that cannot be read, a name that is there twice, or an unknown split.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a CSV file ({error})") from error
    columns = [column for column in rows[0] if column] if rows else []
    key = next((column for column in ("name", "path") if column in columns), None)
    if key is None or "label" not in columns:
        said = ",".join(columns)[:80] or "nothing"
        raise UserError(
            f"{path}: the first line must name the columns name,label and may name group,split; it says {said}"
        )
    found: dict[str, Labels] = {}
    for line, row in enumerate(rows, 2):
        name, label = (row[key] or "").strip(), (row["label"] or "").strip()
        split = (row.get("split") or "").strip().lower()
        if not name or not label:
            raise UserError(f"{path} line {line}: {'the label' if name else 'the name'} is empty")
        if name in found:
            raise UserError(f"{path} line {line}: {name} was named before")
        if split and split not in SPLITS:
            raise UserError(f"{path} line {line}: unknown split '{split}': use train, val or test")
        found[name] = Labels(label, (row.get("group") or "").strip() or None, SPLITS.get(split))
    return found


def with_context(samples: Sequence[Sample], groups: Mapping[str, str | None], reach: int) -> list[Sample]:
    """Beside each row of features the mean of its neighbours', (T, 2 D): of `reach` before and after it in its group.

    Neighbours that lack the stream do not count; a sample without any has its own features for theirs.
    """
    members: dict[str | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[groups.get(sample.name) or sample.name].append(sample)
    found = {}
    for group in members.values():
        for at, sample in enumerate(group):
            beside = [*group[max(0, at - reach) : at], *group[at + 1 : at + 1 + reach]]
            streams = {}
            for name, own in sample.streams.items():
                others = [one.streams[name].mean(axis=0) for one in beside if one.streams[name] is not None]
                if own is not None:
                    mean = np.mean(others, axis=0) if others else own.mean(axis=0)
                    streams[name] = np.concatenate([own, np.broadcast_to(mean, own.shape)], axis=1)
                else:
                    streams[name] = None
            found[sample.name] = replace(sample, streams=streams)
    return [found[sample.name] for sample in samples]


def _by_row(path: Path, arrays: Mapping[str, np.ndarray], streams: Sequence[str], names: str | None) -> list[Sample]:
    """Arrays with a row a sample, and one of names."""
    texts = [name for name, array in arrays.items() if array.dtype.kind in "US" and array.ndim == 1]
    unique = [name for name in texts if len(np.unique(arrays[name])) == len(arrays[name])]
    if names is None and len(unique) != 1:
        there = ", ".join(texts) or "none"
        raise UserError(f"{path}: name the array of names with --names; of texts there are: {there}")
    names = unique[0] if names is None else names
    if names not in texts:
        raise UserError(f"{path} has no array of texts called {names}: there are {', '.join(texts) or 'none'}")
    keys = [key.decode() if isinstance(key, bytes) else str(key) for key in arrays[names]]
    if len({*keys}) < len(keys) or not keys:
        raise UserError(f"{path}: {names} holds {'a name twice' if keys else 'no name'}")
    fit = [
        name
        for name, array in arrays.items()
        if array.dtype.kind in "fiu" and array.ndim in (2, 3) and len(array) == len(keys)
    ]
    chosen = _chosen(path, streams, fit)
    rows = {name: arrays[name].astype(np.float32).reshape(len(keys), -1, arrays[name].shape[-1]) for name in chosen}
    return [Sample(key, {name: _present(rows[name][at]) for name in chosen}) for at, key in enumerate(keys)]


def _by_name(path: Path, arrays: Mapping[str, np.ndarray], streams: Sequence[str]) -> list[Sample]:
    """Arrays called NAME/STREAM."""
    found: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for key, array in arrays.items():
        name, _, stream = key.rpartition("/")
        if name and array.dtype.kind == "f" and array.ndim in (1, 2) and array.size and stream != "times":
            found[name][stream] = np.atleast_2d(array).astype(np.float32)
    if not found:
        raise UserError(f"{path} holds no array of features called NAME/STREAM")
    chosen = _chosen(path, streams, list(dict.fromkeys(name for one in found.values() for name in one)))
    return [
        Sample(key, {name: None if name not in one else _present(one[name]) for name in chosen})
        for key, one in found.items()
    ]


def _chosen(path: Path, streams: Sequence[str], there: list[str]) -> list[str]:
    unknown = [name for name in streams if name not in there]
    if unknown or not there:
        what = f"no features called {unknown[0]}" if unknown else "no array with a row a name"
        raise UserError(f"{path} has {what}: there are {', '.join(there) or 'none'}")
    return list(streams) or there


def _present(rows: np.ndarray) -> np.ndarray | None:
    """Rows without those that are not numbers; None if there are no others."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows if len(rows) else None
