"""A worker pool: a process that hangs, crashes or takes too much memory loses only its own job."""
