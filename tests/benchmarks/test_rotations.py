"""The benchmark of decoded rotations: its measures, and its table."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.benchmarks import rotations
from tests.models.stages.tiny import checkpoint


def test_measures_of_known_errors():
    joints = np.random.default_rng(0).normal(size=(5, 24, 3))
    moved = joints + np.array([1.0, 0, 0])
    assert rotations.joint_error(moved, joints) == pytest.approx(0, abs=1e-9)
    moved[:, 1:, 2] += 0.01
    assert rotations.joint_error(moved, joints) == pytest.approx(10)
    turns = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(40, 3)))
    assert rotations.rotation_error(
        turns * Rotation.from_euler("x", 7, degrees=True), turns
    ) == pytest.approx(7)


def test_the_table_has_both_ways(trained, small_data, capsys):
    path = checkpoint(trained, "sep_vqvae_root_mix")
    rotations.main(["--data", str(small_data), "--memory", str(path), str(path), "--dances", "1"])
    text = capsys.readouterr().out
    assert "1 dances of split 'test', 2 memories" in text
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines() if "|" in line}
    assert set(rotations.ROWS) | {"real"} <= rows.keys()
    cells = [cell.strip() for cell in rows["rotations"]]
    assert all("±" in cell for cell in cells)
    assert [cell.strip() for cell in rows["positions"]][2:] == ["-", "-", "-"]
    assert "times faster than by the fit" in text
