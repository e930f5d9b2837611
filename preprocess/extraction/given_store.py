"""A store of given features, written aside and then named."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from preprocess.common.files import write_aside
from preprocess.extraction.given import NOT_GIVEN, Labels, Sample
from preprocess.store.index import Video
from preprocess.store.kinds import kinds_of
from preprocess.store.new_file import NewFile, new_file, write_index
from preprocess.store.seal import stream_checksum, write_seal


def write_store(
    path: Path,
    samples: Sequence[Sample],
    labels: Mapping[str, Labels],
    *,
    groups: Mapping[str, str | None],
    rate: float,
) -> None:
    """Write the samples, whose longest sequences have `rate` rows a second. After an error there is nothing new.

    Raises OSError if it cannot be written.
    """
    sizes = {name: _size(samples, name) for name in samples[0].streams}
    parameters = {"fps": float(rate), "given": sizes}

    def write(aside: Path) -> None:
        file = new_file(aside, parameters=parameters)
        videos = [
            _write_sample(file, sample, labels.get(sample.name), group=groups.get(sample.name), rate=rate)
            for sample in samples
        ]
        write_index(file, videos, [], notes=(), kinds=kinds_of(parameters))
        file.close()
        write_seal(aside)

    write_aside(path, write)


def _size(samples: Sequence[Sample], stream: str) -> int:
    return next(rows.shape[1] for sample in samples if (rows := sample.streams[stream]) is not None)


def _write_sample(file: NewFile, sample: Sample, labels: Labels | None, *, group: str | None, rate: float) -> Video:
    there = {name: rows for name, rows in sample.streams.items() if rows is not None}
    digest = blake2b(sample.name.encode(), digest_size=16)
    for name, rows in there.items():
        digest.update(name.encode() + np.ascontiguousarray(rows).tobytes())
    content = digest.hexdigest()
    place = file.create_group(f"videos/{content}")
    at = {}
    for name, rows in there.items():
        stream = place.create_group(name)
        stream["data"] = rows.astype("f4")
        stream.attrs["unit"] = np.bytes_(b"features")
        stream.attrs["checksum"] = np.bytes_(stream_checksum(stream))
        at[f"{name}_data"] = stream["data"].id.get_offset()
    file.check()
    frames = max((len(rows) for rows in there.values()), default=1)
    return Video(
        content=content,
        path=sample.name,
        label=labels and labels.label,
        group=group,
        split=labels and labels.split,
        seconds=frames / rate,
        frames=frames,
        height=1,
        width=1,
        streams={name: name in there for name in sample.streams},
        why={name: NOT_GIVEN for name in sample.streams if name not in there},
        bytes={name: rows.astype("f4").nbytes for name, rows in there.items()},
        at=at,
    )
