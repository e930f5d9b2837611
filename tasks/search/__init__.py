"""A search for good settings: what python -m tasks.tune stands on."""
