"""The store's format: version, units, parameters, and the folder of its shards."""

import json
import re
from pathlib import Path

import numpy as np

from preprocess.store import safe_hdf5

FLOW_BOUND = 20.0  # pixels a frame; faster motion is clipped
FLOW_ZERO = 128  # the byte that means no motion
FLOW_STEPS = 127  # bytes from no motion to the bound
MEL_RATE = 100  # log-mel rows a second: a 10 ms hop, four rows a frame at 25 fps
MEL_FLOOR = 1e-6  # power added before the logarithm
SILENCE = float(np.log(MEL_FLOOR))
FORMAT = "tristream"
STREAM_NAME = re.compile(r"[a-z][a-z0-9_]*")  # of features that were given
VERSION = 4
FLOW_MEANING = "velocity between the source's own pictures"  # before version 4: motion between frames of the store


def frame_count(seconds: float) -> int:
    """The number of mel frames of a video of this length."""
    return round(seconds * MEL_RATE)


def shard_folder(path: Path) -> Path:
    """The folder of a store's shards."""
    return path.with_name(path.name + ".shards")


def read_parameters(file) -> dict:
    """The parameters that a store, a shard or a piece was made with.

    Raises safe_hdf5.UnsafeFile if they are missing.
    """
    try:
        parameters = json.loads(safe_hdf5.attribute(file, "parameters"))
        given = parameters.get("given")
        numbers = [parameters[name] for name in (("fps",) if given else ("fps", "short_side", "mel_bands"))]
        numbers += (given or {}).values()
        texts = [*given] if given else [parameters["flow"][name] for name in ("method", "engine", "preset")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise safe_hdf5.UnsafeFile("its parameters are not JSON of this program") from error
    if not all(type(number) in (int, float) and 0 < number < 1e6 for number in numbers):
        raise safe_hdf5.UnsafeFile("its parameters hold numbers that cannot be")
    if not all(isinstance(text, str) for text in texts):
        raise safe_hdf5.UnsafeFile("its parameters do not say what flow it holds")
    if given and not all(type(size) is int and STREAM_NAME.fullmatch(name) for name, size in given.items()):
        raise safe_hdf5.UnsafeFile("its parameters name streams that cannot be")
    return parameters


def is_current(parameters: dict) -> bool:
    """True if the parameters are of a store whose data mean what this version's do."""
    return "flow" not in parameters or parameters["flow"].get("steps") == FLOW_MEANING


def release() -> str:
    """The running release, which files record as their writer."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"tristream {version('tristream')}"
    except PackageNotFoundError:  # run from a checkout without installation
        return "tristream unreleased"
