"""Data: AIST++, songs, prepared sequences, clips, the synthetic sample corpus."""

import utils  # noqa: F401  prepares the environment before torch or librosa load
