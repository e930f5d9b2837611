"""A small ablation, which is trained once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streams.registry import subset_name
from tasks.ablate import ablate
from tasks.settings import AblateSettings
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY

ONCE = replace(TINY, epochs=1)
PAIR = ("rgb", "audio")


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Videos to train on, and sixteen test videos of half of the classes, of which some lack sound."""
    test = [spec for spec in three_bit(32, prefix="test", split="test", frames=10) if spec.bits[0] == 0]
    test = [replace(spec, streams=spec.streams[: 2 if k % 5 == 0 else 3]) for k, spec in enumerate(test)]
    specs = [*three_bit(24, split="train", frames=10), *test]
    return make_store(tmp_path_factory.mktemp("store") / "s.h5", specs)


@pytest.fixture(scope="session")
def settings(store, tmp_path_factory):
    ceilings = tmp_path_factory.mktemp("ceilings") / "ceilings.json"
    ceilings.write_text(json.dumps({"rgb": 0.25, "audio": 0.25, "rgb+audio": 0.5}))
    return AblateSettings(
        data=store.path,
        streams=",".join(PAIR),
        seeds=2,
        out=tmp_path_factory.mktemp("out") / "ablation",
        views=1,
        ceilings=ceilings,
        recipe=ONCE,
        machine=CPU,
    )


@pytest.fixture(scope="session")
def result(settings):
    return ablate(settings)


def runs(folder: Path, subset: tuple[str, ...] = PAIR, seed: int = 0) -> list[Path]:
    return sorted(folder.glob(f"{subset_name(subset)}-seed{seed}-*"))


def weights(folder: Path) -> dict:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/*.safetensors")}
