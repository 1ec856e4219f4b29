"""Published checkpoints: names of their tensors, their files, conversion in both directions."""
