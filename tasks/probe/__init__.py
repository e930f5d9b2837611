"""Linear probes: emotions, valence and arousal, or anything else, from features that are there already."""
