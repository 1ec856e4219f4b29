"""Finding the golden files: in tests/golden of a clone, else in ../shared beside it, else skip by name."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def golden_path(name: str) -> Path:
    """Path of a golden file; skips the test, naming the file, when no copy is there."""
    for path in (SHARED / "golden" / name, ROOT / "tests" / "golden" / name):
        if path.is_file():
            return path
    pytest.skip(f"golden file {name} is not here")


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden .npz file."""
    with np.load(golden_path(name), allow_pickle=False) as file:
        return dict(file)


def real_data() -> Path:
    """The folder with a few real AIST++ motions; skips the test when it is not here."""
    path = SHARED / "data" / "aistpp"
    if not path.is_dir():
        pytest.skip("real AIST++ motions are not here")
    return path
