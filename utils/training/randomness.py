"""The global random generators: seeded once, saved, and put back where a run goes on."""

import random
from collections.abc import Mapping
from typing import Any

import torch


def seed_everything(seed: int) -> None:
    """Seeds the global generators; what has its own generator is seeded from the config where it is made."""
    random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """State of the global generators, as plain containers and tensors."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Puts the global generators back."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
    if "python" in state:
        random.setstate(state["python"])
