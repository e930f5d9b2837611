"""Every subset of the streams, trained and compared: what python -m tasks.ablate stands on."""
