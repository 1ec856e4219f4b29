"""Training loop, checkpoints, logging, processes, preemption and precision."""
