"""The streams, each by itself: its clips, their augmentation, the towers that encode it."""
