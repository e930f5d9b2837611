"""Tests of tasks/events."""
