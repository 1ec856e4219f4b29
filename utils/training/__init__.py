"""Training loop, checkpoints on disk, logging, processes, preemption and precision."""
