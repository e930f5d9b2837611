"""A linear probe and its file."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.extraction.given import Sample
from streams.registry import in_order
from tasks.probe.fit import fit, scale_of, scaled
from tasks.probe.table import Targets, matrix

FORMAT = "tristream probe 1"


@dataclass(frozen=True)
class Probe:
    """Answers are a constant and what each stream adds, so that any of them can be absent."""

    columns: tuple[str, ...]  # the targets' columns
    classes: tuple[str, ...]  # none where the targets are numbers
    standardise: bool  # whether features are standardised by group before
    penalty: float
    learned: tuple[str, ...]  # names of the samples that it learned from
    constants: np.ndarray  # (K,)
    mean: Mapping[str, np.ndarray]  # stream → (D,)
    spread: Mapping[str, np.ndarray]  # stream → (D,)
    weights: Mapping[str, np.ndarray]  # stream → (D, K)

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.weights)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What its K answers are."""
        return self.classes or self.columns

    def added(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """stream → (N, K): what it adds to the constants; zeros where it is absent.

        Raises UserError for features of another size.
        """
        found = {}
        for name, weights in self.weights.items():
            there = [rows for sample in samples if (rows := sample.streams.get(name)) is not None]
            found[name] = np.zeros((len(samples), len(self.constants)))
            if there and there[0].shape[1] != len(weights):
                raise UserError(
                    f"{name} has {there[0].shape[1]} features a sample, and the probe learned from {len(weights)}: "
                    f"extract them as those were"
                )
            if there:
                found[name] = scaled(matrix(samples, name), self.mean[name], self.spread[name]) @ weights
        return found

    def answers(self, added: Mapping[str, np.ndarray], streams: Sequence[str]) -> np.ndarray:
        """(N, K): logits of classes, or numbers, as if only these streams were there."""
        return self.constants + sum(added[name] for name in streams)


def learn(samples: Sequence[Sample], targets: Targets, *, penalty: float, standardise: bool) -> Probe:
    """The probe of these samples; a stream that none of them has is left out."""
    there = [name for name in in_order(samples[0].streams) if any(one.streams[name] is not None for one in samples)]
    features = {name: matrix(samples, name) for name in there}
    scales = {name: scale_of(values) for name, values in features.items()}
    joined = np.concatenate([scaled(values, *scales[name]) for name, values in features.items()], axis=1)
    weights, constants = fit(joined, targets.values, classes=len(targets.classes), penalty=penalty)
    ends = np.cumsum([values.shape[1] for values in features.values()])[:-1]
    return Probe(
        columns=targets.columns,
        classes=targets.classes,
        standardise=standardise,
        penalty=penalty,
        learned=tuple(sample.name for sample in samples),
        constants=constants,
        mean={name: mean for name, (mean, _) in scales.items()},
        spread={name: spread for name, (_, spread) in scales.items()},
        weights=dict(zip(features, np.split(weights, ends), strict=True)),
    )


def save_probe(path: Path, probe: Probe) -> None:
    arrays = {"format": FORMAT, "columns": probe.columns, "classes": np.array(probe.classes, dtype=str)}
    arrays |= {"standardise": probe.standardise, "penalty": probe.penalty, "learned": probe.learned}
    arrays |= {"streams": probe.streams, "constants": probe.constants}
    for name in probe.streams:
        arrays |= {f"mean/{name}": probe.mean[name], f"spread/{name}": probe.spread[name]}
        arrays[f"weights/{name}"] = probe.weights[name]

    def write(part: Path) -> None:
        with open(part, "wb") as file:  # numpy.savez would give a path another name
            np.savez_compressed(file, **{name: np.asarray(value) for name, value in arrays.items()})

    write_aside(path, write)


def load_probe(path: Path) -> Probe:
    """Raises UserError if there is no probe."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays["format"]) != FORMAT:
            raise ValueError(f"its format is {arrays['format']}")
        streams = [str(name) for name in arrays["streams"]]
        return Probe(
            columns=tuple(map(str, arrays["columns"])),
            classes=tuple(map(str, arrays["classes"])),
            standardise=bool(arrays["standardise"]),
            penalty=float(arrays["penalty"]),
            learned=tuple(map(str, arrays["learned"])),
            constants=arrays["constants"],
            mean={name: arrays[f"mean/{name}"] for name in streams},
            spread={name: arrays[f"spread/{name}"] for name in streams},
            weights={name: arrays[f"weights/{name}"] for name in streams},
        )
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no probe of tasks.probe train ({error})") from error
