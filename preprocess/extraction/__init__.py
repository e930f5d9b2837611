"""Extraction of many videos: finding them, skipping those already done, distributing the rest."""
