"""Samples with their features, and the targets that a table gives them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.extraction.given import Sample, read_samples, standardised

NAMES = ("name", "path", "clip", "video")  # columns that may hold the names
LABEL = "label"


@dataclass(frozen=True)
class Targets:
    """What is to be learned of N samples."""

    columns: tuple[str, ...]
    classes: tuple[str, ...]  # of one column; none for numbers
    values: np.ndarray  # (N,) numbers of classes, or (N, K) float64


@dataclass(frozen=True)
class Rows:
    """A table as it was read."""

    path: Path
    columns: tuple[str, ...]
    of: Mapping[str, Mapping[str, str]]  # name → column → text


def read_rows(path: Path) -> Rows:
    """Raises UserError for what is no table of names, or one with a name twice."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a CSV file ({error})") from error
    columns = tuple(column for column in rows[0] if column) if rows else ()
    key = next((column for column in NAMES if column in columns), None)
    if key is None:
        said = ",".join(columns)[:80] or "nothing"
        raise UserError(f"{path}: the first line must name a column name, and those of the targets; it says {said}")
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, 2):
        name = (row[key] or "").strip()
        if not name or name in found:
            raise UserError(f"{path} line {line}: {f'{name} was named before' if name else 'the name is empty'}")
        found[name] = {column: (row[column] or "").strip() for column in columns if column != key}
    return Rows(path, tuple(column for column in columns if column != key), found)


def read_targets(
    rows: Rows, names: Sequence[str], wanted: Sequence[str], classes: Sequence[str] | None = None
) -> Targets:
    """The targets of these samples: one column of classes, or numbers.

    `classes` are those that a probe has learned, none if it has learned numbers.

    Raises UserError for a column that is not there, or holds what it must not.
    """
    columns = tuple(wanted) or _default(rows)
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise UserError(f"{rows.path} has no column {missing[0]}: there are {', '.join(rows.columns) or 'none'}")
    texts = [[rows.of[name][column] for column in columns] for name in names]
    for name, row in zip(names, texts, strict=True):
        if "" in row:
            raise UserError(f"{rows.path}: {name} has no {columns[row.index('')]}")
    said = {text for row in texts for text in row}
    words = sorted(text for text in said if _number(text) is None)
    numbers = not classes if classes is not None else columns != (LABEL,) and not words
    if numbers and words:
        raise UserError(f"{rows.path}: '{words[0]}' is no number, and the probe has learned numbers")
    if not numbers and len(columns) > 1:
        raise UserError(f"{rows.path}: '{words[0]}' is no number; of classes one column is learned at a time")
    if len(said) < 2 and classes is None:
        raise UserError(f"{rows.path}: {columns[0]} is {said.pop()} for all samples, so that nothing can be learned")
    if numbers:
        return Targets(columns, (), np.array(texts, np.float64))
    known = tuple(sorted(said)) if classes is None else tuple(classes)
    odd = sorted(said - {*known})
    if odd:
        raise UserError(f"{rows.path}: the probe has not learned the class '{odd[0]}': it knows {', '.join(known)}")
    return Targets(columns, known, np.array([known.index(row[0]) for row in texts]))


def read_features(
    path: Path, *, streams: Sequence[str], names: str | None, group: str | None, rows: Rows | None, standardise: bool
) -> list[Sample]:
    """The samples that a table names, or all, with their groups: by a column of the table, else an array.

    Raises UserError if they cannot be read, do not fit the table, or lack the groups that standardising needs.
    """
    in_table = rows is not None and group in rows.columns
    array = None if in_table or (rows is not None and group == "group") else group
    samples = read_samples(path, streams=streams, names=names, group=array)
    if rows is not None:
        there = {sample.name for sample in samples}
        lost = [name for name in rows.of if name not in there]
        if lost:
            example = f"{path} has not; it has {min(there)}, for instance"
            raise UserError(f"{rows.path} names {lost[0]}, which {example} ({len(lost)} are missing in all)")
        samples = [sample for sample in samples if sample.name in rows.of]
    if in_table:
        samples = [replace(sample, group=rows.of[sample.name][group] or None) for sample in samples]
    if standardise:
        if not all(sample.group for sample in samples):
            raise UserError("standardised features need the group of every sample: name it with --group")
        samples = standardised(samples, {sample.name: sample.group for sample in samples})
    return samples


def matrix(samples: Sequence[Sample], stream: str) -> np.ndarray:
    """(N, D): a sequence counts as its mean over time; NaN where the stream is absent."""
    size = next(rows.shape[1] for sample in samples if (rows := sample.streams[stream]) is not None)
    absent = np.full(size, np.nan)
    return np.stack([absent if (rows := one.streams[stream]) is None else rows.mean(axis=0) for one in samples])


def groups_of(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) numbers of the groups; a sample without one is its own."""
    keys = [("group", one.group) if one.group else ("sample", one.name) for one in samples]
    number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys])


def _default(rows: Rows) -> tuple[str, ...]:
    if LABEL in rows.columns:
        return (LABEL,)
    given = [{_number(row[column]) is not None for row in rows.of.values()} for column in rows.columns]
    numbers = tuple(
        column
        for column, those in zip(rows.columns, given, strict=True)
        if those == {True} and column not in ("group", "split", "speaker")
    )
    if not numbers:
        raise UserError(f"{rows.path} has no column label, and none of numbers: name what to learn with --targets")
    return numbers


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if np.isfinite(found) else None
