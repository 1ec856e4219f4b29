"""The models: choreographic memory, motion GPT, actor-critic."""

import utils  # noqa: F401  prepares the environment before torch or librosa load
