"""Several cases on one set-up, in one test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def case(what: object) -> Iterator[None]:
    """A failure within names the case that failed."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        raise AssertionError(f"case {what!r}: {error}") from error
