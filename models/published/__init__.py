"""The published checkpoints: their names, their files, and conversion in both directions."""
