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
LEAST_SPREAD = 1e-6  # of a feature that is the same in all of a group


@dataclass(frozen=True)
class Sample:
    """One sample: what a video is elsewhere."""

    name: str
    streams: Mapping[str, np.ndarray | None]  # stream → (T, D) float32, or None where it is absent
    group: str | None = None  # of samples that belong together, if the features name one


@dataclass(frozen=True)
class Labels:
    """What a table says of a sample."""

    label: str
    group: str | None
    split: str | None


def read_samples(
    path: Path,
    *,
    streams: Sequence[str] = (),
    names: str | None = None,
    group: str | None = None,
    order: str | None = None,
) -> list[Sample]:
    """The samples of a file of arrays, in its order or that of an array; all have the same streams.

    Raises UserError if it cannot be read, or does not hold what is asked for.
    """
    arrays = read_arrays(path)
    samples = _by_name(path, arrays, streams) if any("/" in name for name in arrays) else None
    samples = samples or _by_row(path, arrays, streams, names)
    if group is not None:
        of = arrays.get(group)
        if of is None or of.ndim != 1 or of.dtype.kind not in "USiu" or len(of) != len(samples):
            raise UserError(f"{path} has no array '{group}' of a name or whole number a sample to group them by")
        samples = [replace(sample, group=_text(key)) for sample, key in zip(samples, of, strict=True)]
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


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy archive, or of a file that tasks.features wrote as HDF5, as it names them in an archive.

    Raises UserError if it is neither.
    """
    try:
        if path.suffix in (".h5", ".hdf5"):
            return _from_hdf5(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no .npz file of plain arrays ({error}): write one with numpy.savez, or give the .h5 file of "
            f"tasks.features"
        ) from error


def _from_hdf5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def take(name: str, one: object) -> None:
        if isinstance(one, h5py.Dataset):
            arrays[name] = one[()]

    with h5py.File(path, "r") as file:
        file["videos"].visititems(take)
    return arrays


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
    """Each sample as the sequence of `reach` neighbours before it in its group, itself, and as many after it.

    Of a sequence its mean is taken. Where a neighbour is not there, or lacks the stream, the sample's own features
    stand in its place, so that the sample is always in the middle; one that lacks a stream still lacks it.
    """
    members: dict[str | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[groups.get(sample.name) or sample.name].append(sample)
    found = {}
    for group in members.values():
        means = {
            name: [None if (rows := one.streams[name]) is None else rows.mean(axis=0) for one in group]
            for name in samples[0].streams
        }
        for at, sample in enumerate(group):
            places = [place if 0 <= place < len(group) else at for place in range(at - reach, at + reach + 1)]
            streams = {
                name: None if of[at] is None else np.stack([of[at] if of[k] is None else of[k] for k in places])
                for name, of in means.items()
            }
            found[sample.name] = replace(sample, streams=streams)
    return [found[sample.name] for sample in samples]


def standardised(samples: Sequence[Sample], groups: Mapping[str, str | None]) -> list[Sample]:
    """Each feature less its mean over the sample's group, divided by its deviation there: speakers become alike.

    Groups of one sample, and samples without a group, would become zeros: of these nothing is taken.
    """
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[groups.get(sample.name) or ""].append(sample)
    found = {}
    for group, ones in members.items():
        for name in samples[0].streams:
            there = [one.streams[name] for one in ones if one.streams[name] is not None]
            rows = np.concatenate(there) if group and len(there) > 1 else np.zeros((0, 1), np.float32)
            mean, spread = (rows.mean(axis=0), rows.std(axis=0)) if len(rows) else (0.0, 1.0)
            for one in ones:
                own = one.streams[name]
                found[one.name, name] = None if own is None else (own - mean) / np.maximum(spread, LEAST_SPREAD)
    return [replace(one, streams={name: found[one.name, name] for name in one.streams}) for one in samples]


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
    keys = [_text(key) for key in arrays[names]]
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
    masks = [key.rpartition("/present/") for key in arrays if "/present/" in key]
    for name, _, stream in masks:  # as tasks.features wrote it, with zeros where a stream is absent
        if stream != "fused" or "fused" in streams:
            there = arrays[f"{name}/present/{stream}"].astype(bool)
            found[name][stream] = np.where(there[:, None], arrays[f"{name}/{stream}"], np.nan).astype(np.float32)
    for key, array in () if masks else arrays.items():
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


def _text(key: object) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)
