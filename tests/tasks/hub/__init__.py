"""Tests of tasks/hub."""
