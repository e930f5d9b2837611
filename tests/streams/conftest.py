"""A small store."""

import pytest

from tests.support.stores import Spec, make_store, three_bit


@pytest.fixture
def toy(tmp_path):
    """Ten videos of eight classes; some lack flow or sound."""
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", streams=("rgb", "audio"))]
    return make_store(tmp_path / "toy.h5", three_bit(8) + lacking)
