"""Training a joint model: the step, its checkpoints, a run's folder."""
