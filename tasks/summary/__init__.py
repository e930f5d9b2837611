"""Summaries of videos: shots, importance, the choice of pieces, and the short video."""
