"""TV-L1 optical flow of a video: one function, three engines that agree with each other."""

from preprocess.flow.engines import describe, resolve_engine, tvl1

__all__ = ["describe", "resolve_engine", "tvl1"]
