"""Events in long videos: when they begin and end, and what they are."""
