"""Benchmarks, as ratios of two sides that take turns: python -m benchmarks.NAME."""
