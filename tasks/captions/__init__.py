"""Captions: sentences about videos, each word from the stream that shows it."""
