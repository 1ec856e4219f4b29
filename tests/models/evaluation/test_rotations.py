"""Evaluation of a memory that decodes rotations, beside its position decoders."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from models.evaluation.report import worst_turn
from models.vqvae import ChoreographicMemory, Codes
from tests.models.evaluation.test_evaluation import evaluation, prepare
from utils.dance import Dance
from utils.dance_formats import WriterInput


@pytest.fixture
def judge(tmp_path):
    """An evaluation whose memory has been given untrained rotation decoders."""
    made = evaluation(prepare(tmp_path / "data"))
    plain = made.memory
    made.memory = ChoreographicMemory(plain.config, velocity=True, rotations=True).eval()
    made.memory.load_state_dict(plain.state_dict(), strict=False)
    return made


def test_dances_follow_from_their_rotations(judge):
    for dances in (judge.reconstructions(), judge.random_codes()):
        assert len(dances) == 3
        for dance in dances:
            assert dance.rotations.shape == (*dance.joints.shape, 3)
            assert WriterInput(dance).own_fit.worst < 1e-4  # which refuses rotations of other joints


def test_positions_are_still_to_be_had(judge):
    positions = judge.reconstructions(rotations=False)
    for real, dance in zip(judge.real, positions, strict=True):
        upper, lower = torch.from_numpy(real.codes).T
        expected = judge.memory.decode_dance(Codes(upper, lower))
        np.testing.assert_array_equal(dance.joints, expected[: len(real.joints)])
        assert dance.rotations is None
    assert worst_turn(positions) is None


def test_the_worst_turn_is_that_of_the_frames_that_are_judged():
    angles = np.zeros((60, 24))
    angles[1:, 3] += 5
    angles[40:, 7] += 20
    turns = Rotation.from_euler("x", angles.reshape(-1, 1), degrees=True).as_matrix()
    dance = Dance("a", np.zeros((60, 24, 3)), rotations=turns.reshape(60, 24, 3, 3))
    assert worst_turn([dance]) == pytest.approx(20, abs=1e-4)
    assert worst_turn([dance], 30) == pytest.approx(5, abs=1e-4)
    assert worst_turn([dance, Dance("b", np.zeros((60, 24, 3)))], 30) == pytest.approx(5, abs=1e-4)


def test_the_report_has_a_column_of_turns(judge, tmp_path):
    rows = {"memory (positions)": judge.reconstructions(rotations=False), "memory": judge.reconstructions()}
    found = judge.report(tmp_path / "eval", rows, shown="memory", title="t")
    assert found["memory"]["max_turn_deg"] == pytest.approx(worst_turn(rows["memory"]))
    assert "max_turn_deg" not in found["memory (positions)"]
    assert {"joint_error_mm", "jitter"} <= found["memory"].keys() & found["memory (positions)"].keys()
    name = rows["memory"][0].name
    with np.load(tmp_path / "eval" / "motions" / "memory" / f"{name}.npz") as file:
        assert file["smpl_rotations"].shape == (*file["joints"].shape, 3)
