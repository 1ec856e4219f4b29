"""SMPL's body model: what files are read, that nothing in them runs, and that smplx's body is ours."""

import os
import pickle
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from datasets.sequences import PreparedData
from prepare_aistpp_data import main as prepare
from tests.body_models import chumpy_pickle, save_npz, smpl_arrays
from tests.datasets.aistpp.fakes import NAMES, fake_song_features, official
from utils.body_model import BodyMotion, find_model, load_body_model, main, read_arrays
from utils.pickles import Opaque
from utils.skeleton import SMPL_24
from utils.smpl import GENDERS, forward_kinematics, rest_joints


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of model files: of each gender as .npz."""
    folder = tmp_path_factory.mktemp("smpl")
    for gender in GENDERS:
        save_npz(folder / f"SMPL_{gender.upper()}.npz", gender)
    return folder


def motion(frames=6, seed=0):
    """Axis-angle poses (T, 72), the same as matrices (T, 24, 3, 3), and translations (T, 3)."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.5, (frames, 72))
    turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(frames, 24, 3, 3)
    return poses, turns, rng.normal(0, 1, (frames, 3))


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize("betas", [(), (1.5, -2.0), (0.3,) * 10])
def test_joints_of_the_mesh_are_those_of_our_forward_kinematics(models, gender, betas):
    model = load_body_model(models, gender, betas)
    assert model.gender == gender
    poses, turns, translation = motion()
    vertices, joints = model.posed(turns, translation)
    assert vertices.shape == (6, 6890, 3)
    rest = smpl_arrays(gender)["J_regressor"] @ (
        smpl_arrays(gender)["v_template"] + smpl_arrays(gender)["shapedirs"][..., : len(betas)] @ betas
    )
    np.testing.assert_allclose(model.rest_joints, rest, atol=1e-6)
    np.testing.assert_allclose(joints, forward_kinematics(poses, translation, rest), atol=3e-6)
    if not betas:
        np.testing.assert_allclose(model.rest_joints, rest_joints(gender), atol=1e-6)


def test_vertices_are_those_of_the_formula_of_smpl(models):
    """Linear blend skinning of shaped and corrected vertices, written down in float64."""
    model, arrays = load_body_model(models, "male", (0.5, 1.0)), smpl_arrays("male")
    poses, turns, translation = motion(2)
    vertices, _ = model.posed(turns, translation)
    shaped = arrays["v_template"] + arrays["shapedirs"][..., :2] @ [0.5, 1.0]
    rest = arrays["J_regressor"] @ shaped
    for frame in range(2):
        placed = forward_kinematics(poses, translation, rest)[frame]
        world = np.empty((24, 3, 3))
        for joint, parent in enumerate(SMPL_24.parents):
            above = np.eye(3) if parent < 0 else world[parent]
            world[joint] = above @ turns[frame, joint]
        corrected = shaped + arrays["posedirs"] @ (turns[frame, 1:] - np.eye(3)).ravel()
        moved = np.einsum("jab,vjb->vja", world, corrected[:, None] - rest) + placed
        expected = np.einsum("vj,vja->va", arrays["weights"], moved)
        assert np.abs(expected - shaped).max() > 0.1
        np.testing.assert_allclose(vertices[frame], expected, atol=1e-5)


def test_a_motion_has_the_size_and_the_place_of_the_dancer(models):
    model = load_body_model(models)
    _, turns, root = motion(3)
    quats = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat().reshape(3, 24, 4)
    moving = BodyMotion(model, quats, root, 1.25)
    vertices = moving.vertices(slice(1, 3))
    plain, joints = model.posed(turns[1:], np.zeros((2, 3)))
    expected = 1.25 * (plain - joints[:, :1]) + root[1:, None]
    np.testing.assert_allclose(vertices, expected, atol=1e-5)
    expected = 1.25 * (joints - joints[:, :1]) + root[1:, None]
    np.testing.assert_allclose(moving.joints[1:], expected, atol=1e-5)


@pytest.mark.parametrize("protocol", [0, 2, 4])  # SMPL's own files are of protocol 0 to 2
def test_a_pickle_of_chumpy_arrays_gives_what_the_npz_gives(models, tmp_path, protocol):
    file = tmp_path / "basicModel_m_lbs_10_207_0_v1.0.0.pkl"
    file.write_bytes(chumpy_pickle(protocol=protocol))
    assert "chumpy" not in sys.modules
    read = read_arrays(find_model(tmp_path)), read_arrays(models / "SMPL_MALE.npz")
    for found, expected in zip(*read, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "chumpy" not in sys.modules


def test_a_class_in_its_old_place_is_read_from_a_pickle_of_python_2(tmp_path):
    content = chumpy_pickle().replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")
    assert b"cscipy.sparse.csc\n" in content
    (tmp_path / "SMPL_MALE.pkl").write_bytes(content)
    arrays = read_arrays(tmp_path / "SMPL_MALE.pkl")
    np.testing.assert_array_equal(arrays.J_regressor, smpl_arrays()["J_regressor"])


class _Harmful:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_nothing_in_a_pickle_runs(tmp_path):
    file, target = tmp_path / "SMPL_MALE.pkl", tmp_path / "harm"
    file.write_bytes(pickle.dumps({"v_template": _Harmful(target)}, 2))
    with pytest.raises(ValueError, match=r"SMPL_MALE\.pkl is refused: it names \w+\.mkdir"):
        load_body_model(tmp_path)
    assert not target.exists()


def test_the_command_converts_pickles_once_and_the_npz_is_preferred(tmp_path, capsys):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "SMPL_FEMALE.pkl").write_bytes(chumpy_pickle("female"))
    torn = folder / "SMPL_MALE.pkl"
    torn.write_bytes(chumpy_pickle()[:-1000])
    assert find_model(tmp_path, "female").suffix == ".pkl"
    assert main([str(torn), str(folder / "SMPL_FEMALE.pkl"), str(folder / "none.pkl")]) == 2
    told = capsys.readouterr()
    assert told.out == f"{folder / 'SMPL_FEMALE.npz'}\n"
    assert [line.partition(":")[0] for line in told.err.splitlines()] == ["error", "error"]
    assert "SMPL_MALE.pkl is damaged" in told.err
    assert "none.pkl is missing" in told.err
    npz = find_model(tmp_path, "female")
    assert npz.suffix == ".npz"
    np.testing.assert_array_equal(read_arrays(npz).shapedirs, smpl_arrays("female")["shapedirs"])
    assert main([str(npz)]) == 2
    assert "name another folder with --out" in capsys.readouterr().err
    assert main([str(npz), "--out", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "SMPL_FEMALE.npz").is_file()


def test_missing_files_are_named_with_what_is_there(models, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*nowhere"):
        load_body_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"it holds no \.npz and no \.pkl"):
        load_body_model(tmp_path)
    (tmp_path / "models").mkdir()
    shutil.copy(models / "SMPL_FEMALE.npz", tmp_path / "models")
    with pytest.raises(FileNotFoundError, match=r"no male SMPL model in .*it holds models/SMPL_FEMALE\.npz"):
        load_body_model(tmp_path)
    with pytest.raises(ValueError, match="gender must be male, female or neutral, got 'man'"):
        load_body_model(models, "man")


@pytest.mark.parametrize(
    ("betas", "message"),
    [((0.0,) * 11, "11 betas are given, but .* has 10"), ((float("nan"),), "betas must be finite")],
)
def test_betas_that_do_not_fit_are_refused(models, betas, message):
    with pytest.raises(ValueError, match=message):
        load_body_model(models, betas=betas)


@pytest.mark.parametrize(("number", "usable"), [(3, 3), (16, 10), (300, 300)])
def test_files_hold_any_number_of_betas(tmp_path, number, usable):
    shapes = np.random.default_rng(0).normal(0, 0.001, (6890, 3, number)).astype(np.float32)
    file = save_npz(tmp_path / "SMPL_MALE.npz", shapedirs=shapes)
    betas = np.linspace(-1, 1, usable)
    shaped = smpl_arrays()["v_template"] + shapes[..., :usable] @ betas
    model = load_body_model(file, betas=tuple(betas.tolist()))
    np.testing.assert_allclose(model.rest_vertices, shaped, atol=1e-5)
    with pytest.raises(ValueError, match=f"{usable + 1} betas are given, but .* has {usable}"):
        load_body_model(file, betas=(0.0,) * (usable + 1))


def test_dances_of_other_skeletons_have_no_such_body(models):
    other = replace(SMPL_24, name="smpl_22", joints=SMPL_24.joints[:22], parents=SMPL_24.parents[:22])
    with pytest.raises(ValueError, match="cannot perform dances of skeleton 'smpl_22'"):
        load_body_model(models, skeleton=other)


def sparse(**changes):
    """The state of a sparse matrix as scipy pickles it, of a class in its old place, with some changes."""
    matrix = csc_matrix(smpl_arrays()["J_regressor"])
    state = {"_shape": matrix.shape, "data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    found = Opaque()
    found.class_name, found.state = "scipy.sparse.csc.csc_matrix", {"maxprint": 50, **state, **changes}
    return found


def opaque(name, **state):
    """An object of a class that is not imported."""
    found = Opaque()
    found.class_name, found.state = name, state
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"J_regressor": sparse()}, None),
        ({"J_regressor": sparse(_shape=(24, 10**12))}, "its shape is 24 x 1000000000000"),
        ({"J_regressor": sparse(indices=np.full(460, 2**30))}, "no sound sparse matrix"),
        ({"J_regressor": sparse(indptr=np.array([0, 24]))}, "no sound sparse matrix"),
        (
            {"J_regressor": sparse(data=np.full(len(sparse().state["data"]), np.nan))},
            "not an array of finite",
        ),
        ({"J_regressor": sparse(data="text")}, "no sound sparse matrix"),
        ({"J_regressor": np.zeros((52, 6890))}, r"model of SMPL-H \(52 joints\)"),
        ({"J_regressor": np.zeros((55, 10475))}, r"model of SMPL-X \(55 joints\)"),
        ({"J_regressor": np.zeros((16, 778))}, r"model of MANO \(16 joints\)"),
        (
            {"J_regressor": np.zeros((24, 60))},
            r"J_regressor has the shape \(24, 60\), SMPL's is \(24, 6890\)",
        ),
        ({"shapedirs": opaque("chumpy.ch.Add", a=1)}, "is a chumpy.ch.Add, which is not understood"),
        ({"shapedirs": opaque("chumpy.reordering.Select", a=np.zeros(3), idxs=[3])}, "no sound selection"),
        ({"shapedirs": np.zeros((6890, 3))}, "shapedirs has the shape"),
        ({"posedirs": np.zeros((6890, 3, 459))}, "posedirs has the shape"),
        ({"v_template": np.zeros((6890, 3), object)}, "not an array of finite numbers"),
        ({"weights": np.zeros((6890, 24))}, "do not sum to 1"),
        ({"kintree_table": np.zeros((2, 24), int)}, "other parents"),
        ({"f": np.full((10, 3), 6890)}, "f names vertices beyond"),
        ({"v_template": 100 * smpl_arrays()["v_template"]}, r"v_template is \d+ m high, so not in metres"),
        ({"posedirs": np.full((6890, 3, 207), 1e60)}, "not an array of finite numbers"),
    ],
)
def test_arrays_are_checked_one_by_one(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr("utils.body_model.load_pickle", lambda *_, **__: {**smpl_arrays(), **changes})
    file = tmp_path / "SMPL_MALE.pkl"
    file.touch()
    if message is None:
        np.testing.assert_array_equal(read_arrays(file).J_regressor, smpl_arrays()["J_regressor"])
        return
    with pytest.raises(ValueError, match=message) as caught:
        read_arrays(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "https://smpl.is.tue.mpg.de" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("SMPL_MALE.pkl", b"", "is empty"),
        ("SMPL_MALE.pkl", pickle.dumps([1]), "it has no v_template"),
        ("SMPL_MALE.pkl", pickle.dumps({"a": 1}), "it has no v_template.*, but a; take"),
        ("SMPL_MALE.npz", b"torn", "is damaged"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_body_model(tmp_path)
    assert str(caught.value).count("take SMPL_MALE.pkl or") == 1


def test_the_preparation_takes_joints_of_the_body(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setattr("datasets.music.song_features", fake_song_features)
    source, out = official(tmp_path / "source"), tmp_path / "out"
    command = ["--source", str(source), "--no-songs", "--out", str(out), "--workers", "1"]

    def first_joints(*options):
        assert prepare([*command, *options]) == 0
        return np.array(PreparedData(out).sequence(NAMES[0]).joints)

    built_in = first_joints()
    assert "rest joints" not in capsys.readouterr().out
    given = ("--smpl", str(models))
    np.testing.assert_allclose(first_joints(*given), built_in, atol=1e-6)
    assert "SMPL_MALE.npz, betas 0: up to 0.0 mm from the built-in male ones" in capsys.readouterr().out
    female = first_joints(*given, "--gender", "female")
    np.testing.assert_allclose(female, first_joints("--gender", "female"), atol=1e-6)
    taller = first_joints(*given, "--betas", "2", "-0.5")
    assert "betas 2, -0.5: up to" in capsys.readouterr().out
    bones = [np.linalg.norm(joints[0, 4] - joints[0, 1]) for joints in (taller, built_in)]
    assert bones[0] / bones[1] == pytest.approx(1.1, abs=0.02)  # two units of 5 % each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--smpl", "nowhere"), "there is no file or folder nowhere"),
        (("--betas", "1"), "--betas goes with --smpl only"),
        (("--smpl", "{models}", "--betas", *["1"] * 11), "11 betas are given"),
    ],
)
def test_the_preparation_refuses_bodies_that_are_not_there(tmp_path, models, capsys, options, message):
    options = [option.format(models=models) for option in options]
    source = official(tmp_path / "source")
    assert prepare(["--source", str(source), "--no-songs", "--out", str(tmp_path / "out"), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
