"""What the tests of all methods share."""

import pytest

from preprocess.store import Store
from tests.support.stores import Spec, make_store, three_bit


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Store:
    """Sixteen videos, of which two lack streams."""
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(14) + lacking)
