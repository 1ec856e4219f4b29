import pickle
import sys
import types

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from datasets.aistpp.annotations import read_motion
from datasets.aistpp.smpl import read_rest_joints
from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import NAMES, fake_song_features, official
from tests.helpers import real_data
from utils.pickles import Opaque, load_pickle
from utils.smpl import GENDERS, forward_kinematics, rest_joints

# COCO keypoint -> SMPL joint, for the twelve that both have
SHARED = {5: 16, 6: 17, 7: 18, 8: 19, 9: 20, 10: 21, 11: 1, 12: 2, 13: 4, 14: 5, 15: 7, 16: 8}


def distance(path, rest):
    """Mean distance in metres to the data set's own keypoints, which come from cameras and not from SMPL."""
    content = path.read_bytes()
    joints = forward_kinematics(*read_motion(content, path.name), rest).astype(np.float32)
    scale = load_pickle(content, path.name)["smpl_scaling"]
    keypoints_path = path.parent.parent / "keypoints3d" / path.name
    keypoints = load_pickle(keypoints_path.read_bytes(), path.name)["keypoints3d_optim"] / scale
    return np.linalg.norm(joints[:, list(SHARED.values())] - keypoints[:, list(SHARED)], axis=-1).mean()


def real_motions():
    names = sorted(path.name for path in (real_data() / "keypoints3d").iterdir())
    return [real_data() / "motions" / name for name in names]


def test_joints_lie_within_three_centimetres_of_the_keypoints():
    distances = [distance(path, rest_joints("male")) for path in real_motions()]
    assert len(distances) == 4
    assert max(distances) < 0.03


@pytest.mark.parametrize("wrong", ["no pelvis", "female", "neutral"])
def test_the_pelvis_offset_and_the_gender_decide(wrong):
    rest = rest_joints("male") - rest_joints("male")[0] if wrong == "no pelvis" else rest_joints(wrong)
    distances = [distance(path, rest) for path in real_motions()]
    assert min(distances) > 0.03
    assert min(distances) > (0.2 if wrong == "no pelvis" else 0.0)


def test_the_first_joint_is_rest_pelvis_plus_translation_over_scaling():
    poses, trans = np.zeros((2, 72)), np.array([[0.0, 90, 0], [9, 90, 0]])
    content = pickle.dumps({"smpl_poses": poses, "smpl_trans": trans, "smpl_scaling": np.array([90.0])})
    joints = forward_kinematics(*read_motion(content, "x.pkl")).astype(np.float32)
    np.testing.assert_allclose(joints[:, 0], rest_joints()[0] + trans / 90, atol=1e-7)
    np.testing.assert_allclose(joints[0] - joints[0, 0], rest_joints() - rest_joints()[0], atol=1e-6)
    assert joints.dtype == np.float32


def test_forward_kinematics_keeps_bone_lengths_and_turns_children_only():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(5, 72))
    still = forward_kinematics(poses, np.zeros((5, 3)))
    elbow = poses.copy()
    elbow[:, 18 * 3 : 18 * 3 + 3] += 1  # the left elbow: wrist and hand alone follow
    moved = np.linalg.norm(forward_kinematics(elbow, np.zeros((5, 3))) - still, axis=-1).max(0)
    assert set(np.flatnonzero(moved > 1e-9)) == {20, 22}
    bone = np.linalg.norm(still[:, 20] - still[:, 18], axis=-1)
    np.testing.assert_allclose(bone, np.linalg.norm(rest_joints()[20] - rest_joints()[18]), atol=1e-12)


@pytest.fixture
def chumpy(monkeypatch):
    """A package of that name whose arrays pickle as the real one's do: a class and its attributes."""
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x):
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return Ch


def model(gender, wrap=lambda x: x, vertices=60):
    """A file with SMPL's keys whose regressor times template gives that gender's rest joints."""
    rng = np.random.default_rng(1)
    regressor = np.zeros((24, vertices))
    regressor[np.arange(24), rng.permutation(vertices)[:24]] = 1
    template = rng.normal(size=(vertices, 3))
    template[regressor.argmax(1)] = rest_joints(gender)
    more = wrap(np.zeros(3))
    return {"v_template": wrap(template), "J_regressor": csc_matrix(regressor), "shapedirs": more}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])  # SMPL's own files are of protocol 0 to 2
@pytest.mark.parametrize("gender", GENDERS)
def test_rest_joints_are_read_from_a_chumpy_model_without_chumpy(
    tmp_path, chumpy, monkeypatch, gender, protocol
):
    (tmp_path / "smpl").mkdir()
    content = pickle.dumps(model(gender, chumpy), protocol)
    (tmp_path / "smpl" / f"SMPL_{gender.upper()}.pkl").write_bytes(content)
    monkeypatch.setitem(sys.modules, "chumpy", None)  # importing it now fails
    monkeypatch.setitem(sys.modules, "chumpy.ch", None)
    np.testing.assert_allclose(read_rest_joints(tmp_path, gender), rest_joints(gender), atol=1e-12)


def test_the_original_file_names_and_npz_are_found(tmp_path):
    (tmp_path / "basicModel_m_lbs_10_207_0_v1.0.0.pkl").write_bytes(pickle.dumps(model("male")))
    np.testing.assert_allclose(read_rest_joints(tmp_path, "male"), rest_joints("male"), atol=1e-12)
    arrays = model("female")
    regressor = arrays["J_regressor"].toarray()
    np.savez(tmp_path / "any.npz", v_template=arrays["v_template"], J_regressor=regressor)
    read = read_rest_joints(tmp_path / "any.npz")
    np.testing.assert_allclose(read, rest_joints("female"), atol=1e-12)
    with pytest.raises(FileNotFoundError, match="no neutral SMPL model"):
        read_rest_joints(tmp_path, "neutral")


def test_the_file_decides_the_joints_of_the_command_line(tmp_path, chumpy, monkeypatch, capsys):
    source, models = official(tmp_path / "source"), tmp_path / "models"
    models.mkdir()
    for gender in ("male", "female"):
        content = pickle.dumps(model(gender, chumpy), 2)
        (models / f"SMPL_{gender.upper()}.pkl").write_bytes(content)
    monkeypatch.setitem(sys.modules, "chumpy", None)
    monkeypatch.setitem(sys.modules, "chumpy.ch", None)

    def first_joints(*options):
        out = tmp_path / "out"
        assert (
            main(["--source", str(source), "--no-songs", "--out", str(out), "--workers", "1", *options]) == 0
        )
        return np.array(PreparedData(out).sequence(NAMES[0]).joints)

    monkeypatch.setattr("datasets.music.song_features", fake_song_features)
    built_in = first_joints()
    assert "rest joints" not in capsys.readouterr().out
    np.testing.assert_array_equal(first_joints("--smpl", str(models)), built_in)
    assert "up to 0.0 mm from the built-in male ones" in capsys.readouterr().out
    female = first_joints("--smpl", str(models), "--gender", "female")
    np.testing.assert_array_equal(female, first_joints("--gender", "female"))
    assert np.abs(female - built_in).max() > 0.01
    command = ["--source", str(source), "--smpl", str(models), "--gender", "neutral"]
    assert main(command) == 1
    assert "no neutral SMPL model" in capsys.readouterr().err


def sparse(**changes):
    """The state of a sparse matrix as scipy pickles it, of a class in its old place, with some changes."""
    matrix = model("male")["J_regressor"]
    state = {"_shape": matrix.shape, "data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    found = Opaque()
    found.class_name, found.state = "scipy.sparse.csc.csc_matrix", {"maxprint": 50, **state, **changes}
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"_shape": (24, 10**12)}, "its shape is 24 x 1000000000000"),
        ({"indices": np.full(24, 2**30)}, "out of bounds"),
        ({"indptr": np.array([0, 24])}, "no sound sparse matrix"),
        ({"indptr": -np.arange(61)}, "no sound sparse matrix"),
        ({"data": np.full(24, np.nan)}, "not an array of finite numbers"),
        ({"data": "text"}, "no sound sparse matrix"),
    ],
)
def test_a_sparse_matrix_is_checked_index_by_index(tmp_path, monkeypatch, changes, message):
    content = {**model("male"), "J_regressor": sparse(**changes)}
    monkeypatch.setattr("datasets.aistpp.smpl.load_pickle", lambda *_, **__: content)
    (tmp_path / "SMPL_MALE.pkl").touch()
    if message is None:
        np.testing.assert_allclose(read_rest_joints(tmp_path), rest_joints(), atol=1e-12)
        return
    with pytest.raises(ValueError, match=message):
        read_rest_joints(tmp_path)


def test_a_class_in_its_old_place_is_read_from_a_pickle_of_python_2(tmp_path):
    arrays = {**model("male")}
    content = pickle.dumps(arrays, 2).replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")
    assert b"cscipy.sparse.csc\n" in content
    (tmp_path / "SMPL_MALE.pkl").write_bytes(content)
    np.testing.assert_allclose(read_rest_joints(tmp_path), rest_joints(), atol=1e-12)


def test_other_models_are_refused(tmp_path):
    path = tmp_path / "SMPL_MALE.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="is no SMPL model"):
        read_rest_joints(path)
    other = model("male")
    other["J_regressor"] = csc_matrix(np.zeros((52, 60)))
    path.write_bytes(pickle.dumps(other))
    with pytest.raises(ValueError, match=r"\(52, 60\)"):
        read_rest_joints(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"SMPL model .*SMPL_MALE\.pkl is empty"):
        read_rest_joints(path)
    path.with_suffix(".npz").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"SMPL model .*SMPL_MALE\.npz is damaged"):
        read_rest_joints(path.with_suffix(".npz"))
