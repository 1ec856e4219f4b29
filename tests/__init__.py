"""Tests; they run in the environment that the commands have."""

import utils  # noqa: F401  prepares the environment before torch or librosa load
