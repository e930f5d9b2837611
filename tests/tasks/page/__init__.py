"""Tests of tasks/page."""
