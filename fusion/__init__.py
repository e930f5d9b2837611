"""Fusion of any number of streams, any of which may be absent."""
