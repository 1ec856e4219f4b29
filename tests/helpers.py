"""Finding the golden files in tests/golden, and real data in ../shared beside the checkout."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from tests.packing import unpack

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def golden(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a golden .npz file; see tests/golden/README.md."""
    return {key: array.copy() for key, array in _golden(name).items()}


@lru_cache
def _golden(name: str) -> dict[str, np.ndarray]:
    with np.load(ROOT / "tests" / "golden" / name, allow_pickle=False) as file:
        return unpack(dict(file), _golden)


def real_data() -> Path:
    """Return the folder with a few real AIST++ motions; skip the test where it is not there."""
    path = SHARED / "data" / "aistpp"
    if not path.is_dir():
        pytest.skip("real AIST++ motions are not here")
    return path
