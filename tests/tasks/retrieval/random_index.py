"""An index of random unit vectors."""

from pathlib import Path

import numpy as np

from tasks.retrieval.describe import Described
from tasks.retrieval.index import About, Index, open_writer

SIZES = {"rgb": 48, "audio": 20}


def unit(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    values = rng.normal(size=(count, size)).astype(np.float32) * rng.uniform(0.2, 3, size).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def described(rng: np.random.Generator, count: int, *, absent: float = 0.2, sizes: dict[str, int] = SIZES) -> Described:
    present = {name: rng.random(count) >= absent for name in sizes}
    vectors = {name: unit(rng, count, size) * present[name][:, None] for name, size in sizes.items()}
    begin = np.arange(count, dtype=np.float32)
    return Described(np.stack([begin, begin + 2], axis=1), vectors, present)


def random_index(folder: Path, *, sizes: dict[str, int] = SIZES) -> Index:
    """60 videos of 1 to 40 windows each."""
    rng = np.random.default_rng(0)
    about = About("model", "digest", "release", 2.0, 1.0, 48, sizes)
    with open_writer(folder, about) as writer:
        for number in range(60):
            windows = described(rng, 1 + number % 40, sizes=sizes)
            stills = [b"jpeg"] * len(windows)
            writer.add(f"{number}", content=f"{number:032x}", source="s", seconds=9, windows=windows, stills=stills)
    return Index(folder)
