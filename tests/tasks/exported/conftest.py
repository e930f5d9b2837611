"""The browser of the pages' tests."""

from tests.tasks.page.conftest import browser

__all__ = ["browser"]
