"""Detection and tracking: boxes of what moves or is known, followed through a video, cut out and judged."""
