"""The data beside a checkout, which is no part of it."""

from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared" / "data"
