"""The parts of python -m tasks.tune, a search for good settings."""
