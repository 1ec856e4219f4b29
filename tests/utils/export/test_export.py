import bvhio
import numpy as np
import pygltflib
import pytest
from scipy.ndimage import maximum_filter1d
from scipy.spatial.transform import Rotation

from tests.helpers import real_data
from utils.dance import Dance, load_dance, save_dance
from utils.export import fit as fit_module
from utils.export import fit_body, fit_smpl, fitted_joints, lock_feet, worst_stretch, write_smpl
from utils.export.__main__ import main
from utils.export.align import smallest_turn
from utils.export.chain import best_turn, clip_offsets, lengths, offsets_of
from utils.export.fit import chain_joints, continuous, fastest_turn, matrices
from utils.export.smpl import nearest_vectors
from utils.floor import floor_height, on_ground, sole_thickness
from utils.metrics.physical import bone_length_drift, foot_skate_ratio, jitter
from utils.metrics.reading import read_dance
from utils.pickles import load_pickle
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics, rest_joints

REST = rest_joints()


def dance(frames=90, seed=0, size=1.0):
    """A smooth made-up dance (T, 24, 3) with every joint turning, and a body of the size given."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 60
    swing, pace, phase = (
        rng.normal(0, 0.35, (24, 3)),
        rng.uniform(0.3, 1.5, (24, 3)),
        rng.uniform(0, 6, (24, 3)),
    )
    poses = swing * np.sin(2 * np.pi * pace * t + phase)
    poses[:, 0, 1] += 4 * t[:, 0, 0]  # turns around itself
    poses[:, 4:6, 0] += 0.8  # knees
    root = np.stack([0.5 * t[:, 0, 0], 0.9 + 0 * t[:, 0, 0], 0.2 * np.sin(3 * t[:, 0, 0])], -1)
    return size * forward_kinematics(poses.reshape(frames, 72), root)


def test_smallest_turn_and_best_turn():
    rng = np.random.default_rng(0)
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in rng.normal(size=(2, 50, 3)))
    b[0] = -a[0]
    turn = smallest_turn(a, b)
    np.testing.assert_allclose(np.einsum("tij,tj->ti", turn, a), b, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-12)
    # no other turn is smaller: its angle is the angle between the vectors
    angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    np.testing.assert_allclose(angle, np.arccos(np.clip((a * b).sum(-1), -1, 1)), atol=1e-6)
    points = rng.normal(size=(3, 3))
    np.testing.assert_allclose(best_turn(points, np.einsum("tij,nj->tni", turn, points)), turn, atol=1e-9)


def test_a_rigid_dance_is_fitted_exactly():
    joints = dance()
    fit = fit_body(joints, REST)
    body = fitted_joints(fit)
    # not to the last digit: what decides the twist also pulls at bones, most at short ones
    assert np.linalg.norm(body - joints, axis=-1).max() < 3e-3
    assert fit.error < 5e-4
    assert fit.error == pytest.approx(np.linalg.norm(body - joints, axis=-1).mean(), abs=1e-12)
    np.testing.assert_allclose(np.linalg.norm(fit.rotations, axis=-1), 1, atol=1e-9)
    assert ((fit.rotations[1:] * fit.rotations[:-1]).sum(-1) > 0).all()
    # the knee is bent about its hinge: what joints cannot tell is as a body does it
    knee = matrices(fit.rotations)[:, SMPL_24.index("left_knee")]
    turn = fit_module._log(knee)
    bent = turn[turn[:, 0] > 0.6]
    assert len(bent) > 40
    assert (bent[:, 0] > 2 * np.abs(bent[:, 1:]).max(1)).all()


def test_noisy_joints_get_rigid_bones():
    joints = dance()
    noisy = joints + np.random.default_rng(1).normal(0, 0.005, joints.shape)
    fit = fit_body(noisy, REST)
    assert fit.drift_before == pytest.approx(bone_length_drift(noisy), rel=1e-9)
    assert fit.drift_before > 0.02
    assert fit.drift_after < 1e-12
    assert fit.error < 0.006
    # nearer to the truth than what was given: the noise is not followed
    before = np.linalg.norm(noisy - joints, axis=-1).mean()
    assert np.linalg.norm(fitted_joints(fit) - joints, axis=-1).mean() < 0.8 * before


def turns_of(rotations):
    """(T-1, J) degrees from each frame to the next of quaternions (T, J, 4)."""
    return np.degrees(2 * np.arccos(np.clip(np.abs((rotations[1:] * rotations[:-1]).sum(-1)), 0, 1)))


def straightish():
    """Poses (T, 24, 3) of limbs that are nearly straight and bend to either side: joints show no twist.

    Knees and elbows turn by up to 12 degrees a frame, hips by less than 1, ankles not at all.
    """
    t = np.arange(240) / 60
    poses = np.zeros((240, 24, 3))
    way = np.pi / 2 * (1 + np.tanh(9 * np.sin(3 * t)))  # in which the limb bends: half a turn in ten frames
    for side, sign in (("left", 1), ("right", -1)):
        elbow, knee = SMPL_24.index(f"{side}_elbow"), SMPL_24.index(f"{side}_knee")
        poses[:, elbow, 1] = -sign * 0.15 * np.cos(way)
        poses[:, elbow, 2] = 0.15 * np.sin(way)
        poses[:, knee, 0] = 0.3 * np.cos(way)
        poses[:, knee, 2] = 0.3 * np.sin(way)
        poses[:, SMPL_24.index(f"{side}_hip"), 0] = -0.3 * np.sin(2 * t)
        poses[:, SMPL_24.index(f"{side}_shoulder"), 2] = 0.5 * np.sin(2 * t + sign)
    poses[:, 0, 1] = 0.5 * t
    return poses


def test_no_joint_spins_while_the_dancer_stays_still():
    poses = straightish()
    joints = forward_kinematics(poses.reshape(240, 72), np.zeros((240, 3)))
    source = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(240, 24, 4)
    fit = fit_body(joints, REST)
    assert turns_of(source).max() < 12
    own = turns_of(fit.rotations)
    assert (own.max(0) < turns_of(source).max(0) + 2).all(), own.max(0).round(1)
    assert fit.error < 2e-4
    # reported as it is
    frame, joint = np.unravel_index(own.argmax(), own.shape)
    assert fit.turn.degrees == pytest.approx(own.max(), abs=1e-6)
    assert (fit.turn.joint, fit.turn.frame) == (SMPL_24.joints[joint], frame)
    assert fastest_turn(fit.rotations[:1]).degrees == 0


def test_real_dances_turn_no_faster_than_their_source():
    """Apart from frames in which the source itself turns by more than 25 degrees."""
    for file in sorted((real_data() / "motions").glob("*.pkl")):
        raw = load_pickle(file.read_bytes(), file.name)
        vectors = np.asarray(raw["smpl_poses"], np.float64).reshape(-1, 3)
        source = turns_of(Rotation.from_rotvec(vectors).as_quat().reshape(-1, 24, 4))
        own = turns_of(fit_body(read_dance(file).joints, REST).rotations)
        allowed = maximum_filter1d(source, 7, axis=0)
        wild = maximum_filter1d(source.max(1), 31) > 25
        assert (own - allowed)[~wild].max() < 10, file.name


def test_windows_join_without_a_seam(monkeypatch):
    joints = dance(240)
    whole = fit_body(joints, REST)
    monkeypatch.setattr(fit_module, "_WINDOW", 100)
    monkeypatch.setattr(fit_module, "_MARGIN", 60)
    parts = fit_body(joints, REST)
    assert np.abs(fitted_joints(whole) - fitted_joints(parts)).max() < 1e-3
    for seam in (99, 199):
        steps = [np.abs((f.rotations[seam] * f.rotations[seam + 1]).sum(-1)).min() for f in (whole, parts)]
        angles = np.degrees(2 * np.arccos(np.clip(steps, 0, 1)))
        assert abs(angles[0] - angles[1]) < 1.0


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_dances(frames):
    joints = dance(frames)
    assert fit_body(joints, REST).error < 1e-3


def test_offsets_are_the_dancers_own():
    small = dance(20, size=0.7)
    offsets = clip_offsets(small, REST, SMPL_24)
    np.testing.assert_allclose(np.linalg.norm(offsets[1:], axis=-1), lengths(0.7 * REST, SMPL_24), rtol=1e-9)


def other_body(seed):
    """Rest joints of another skeleton: bones of other lengths, and other angles at pelvis and chest."""
    rng = np.random.default_rng(seed)
    rest = REST.copy()
    for parent, child in SMPL_24.bones:
        turn = Rotation.from_rotvec(rng.uniform(-0.6, 0.6, 3)).as_matrix()  # up to 60 degrees
        rest[child] = rest[parent] + rng.uniform(0.7, 1.3) * turn @ (REST[child] - REST[parent])
    return rest


@pytest.mark.parametrize("seed", range(4))
def test_bodies_of_other_angles_are_fitted_within_a_millimetre(seed):
    rng, frames = np.random.default_rng(seed), 120
    t = np.arange(frames)[:, None] / 60
    poses = rng.normal(0, 0.35, 72) * np.sin(
        2 * np.pi * rng.uniform(0.3, 1.2, 72) * t + rng.uniform(0, 6, 72)
    )
    rest = other_body(seed)
    joints = forward_kinematics(poses, np.zeros((frames, 3)), rest)
    fit = fit_body(joints, REST)
    assert fit.error < 0.001
    assert fit.worst < 0.01
    np.testing.assert_allclose(np.linalg.norm(fit.offsets[1:], axis=-1), lengths(rest, SMPL_24), rtol=1e-6)
    for joint, kids in ((0, [1, 2, 3]), (9, [12, 13, 14])):  # the angles between the bones are the dancer's
        found, own = (bones[kids] @ bones[kids].T for bones in (fit.offsets, rest - rest[joint]))
        np.testing.assert_allclose(found, own, atol=1e-6)
    straight = offsets_of(REST, SMPL_24)
    straight[1:] *= (lengths(rest, SMPL_24) / np.linalg.norm(straight[1:], axis=-1))[:, None]
    assert fit_body(joints, REST, offsets=straight).worst > 0.02  # with SMPL's angles
    assert fit_smpl(joints, REST)[0].error > 0.01


def test_broken_frames_do_not_change_the_angles():
    joints = dance(100)
    joints[40:50, 1:] += np.random.default_rng(0).normal(0, 0.3, (10, 23, 3))
    np.testing.assert_allclose(clip_offsets(joints, REST, SMPL_24), offsets_of(REST, SMPL_24), atol=2e-3)


def test_the_worst_stretch_is_named():
    joints = dance(60)
    wrist, hand, elbow = (SMPL_24.index(f"left_{name}") for name in ("wrist", "hand", "elbow"))
    along = joints[30, wrist] - joints[30, elbow]
    longer = along / np.linalg.norm(along) * 0.1
    joints[30, [wrist, hand]] += longer
    usual = np.linalg.norm(REST[wrist] - REST[elbow])
    found = worst_stretch(joints)
    assert found.bone == "left_elbow-left_wrist"
    np.testing.assert_allclose(found[1:], [0.1, usual, usual + 0.1], atol=1e-9)


def test_quaternions_have_continuous_signs():
    q = np.tile([0.0, 0.0, 0.0, -1.0], (4, 2, 1))
    q[2] *= -1
    np.testing.assert_array_equal(continuous(q)[..., 3], 1.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((5, 23, 3)), "must be"),
        (np.zeros((0, 24, 3)), "at least 1 frames"),
        (np.full((5, 24, 3), np.nan), "frame 0"),
    ],
)
def test_what_is_not_a_dance_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        fit_body(bad, REST)
    with pytest.raises(ValueError, match="rest joints"):
        fit_body(dance(3), REST[:5])


def test_real_dances_are_fitted_within_15_mm():
    files = sorted((real_data() / "motions").glob("*.pkl"))
    assert files
    for file in files:
        joints = read_dance(file).joints[:100]
        fit = fit_body(joints, REST)
        assert fit.error < 0.001, file.name  # 15 mm is asked; these are SMPL's own bones
        assert fit.drift_after < 1e-12
        noisy = fit_body(joints + np.random.default_rng(0).normal(0, 0.005, joints.shape), REST)
        assert noisy.error < 0.006, file.name


@pytest.mark.parametrize("size", [1.0, 0.85])
def test_smpl_parameters_give_the_joints_back(tmp_path, size):
    joints = dance(60, size=size)
    fit, found = fit_smpl(joints, REST)
    assert found == pytest.approx(size, rel=1e-6)
    write_smpl(tmp_path / "a.npz", fit, found, REST)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        kept = dict(file)
    scaling = float(kept["smpl_scaling"][0])
    again = scaling * forward_kinematics(kept["smpl_poses"], kept["smpl_trans"] / scaling)
    assert np.abs(again - fitted_joints(fit)).max() < 1e-5
    assert np.linalg.norm(again - joints, axis=-1).max() < 3e-3
    assert np.abs(size * read_dance(tmp_path / "a.npz").joints - joints).max() < 3e-3  # and our own reader


def test_axis_angles_do_not_jump_when_a_dancer_turns_twice():
    """Turns about a tilted axis, over three whole ones and back."""
    angle = np.concatenate([np.linspace(0, 20, 300), np.linspace(20, -8, 300)])
    axis = np.array([0.2, 1.0, -0.1]) / np.linalg.norm([0.2, 1.0, -0.1])
    vectors = angle[:, None] * axis
    quats = Rotation.from_rotvec(vectors).as_quat()[:, None]
    found = nearest_vectors(quats)[:, 0]
    np.testing.assert_allclose(found, vectors, atol=1e-7)
    again = nearest_vectors(-quats)[:, 0]  # the other sign of a quaternion is the same rotation
    np.testing.assert_allclose(again, vectors, atol=1e-7)
    still = np.tile([0.0, 0.0, 0.0, 1.0], (3, 1, 1))
    np.testing.assert_array_equal(nearest_vectors(still), 0)
    # each frame has the nearest of its vectors
    rng = np.random.default_rng(4)
    walk = Rotation.concatenate([Rotation.identity(), Rotation.from_rotvec(rng.normal(0, 0.4, (400, 3)))])
    turns = [walk[0]]
    for step in walk[1:]:
        turns.append(turns[-1] * step)
    quats = np.array([turn.as_quat() for turn in turns])[:, None]
    found = nearest_vectors(quats)[:, 0]
    assert (
        np.abs(Rotation.from_rotvec(found).as_matrix() - Rotation.from_quat(quats[:, 0]).as_matrix()).max()
        < 1e-9
    )
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    steps = np.linalg.norm(found[1:] - found[:-1], axis=-1)
    for whole in (-2, -1, 1, 2):
        other = found[1:] * (1 + 2 * np.pi * whole / length[1:])
        assert (np.linalg.norm(other - found[:-1], axis=-1) >= steps - 1e-9).all()


def test_smpl_parameters_of_a_spinning_dancer(tmp_path):
    joints = dance(360)  # 24 radians about the vertical
    fit, size = fit_smpl(joints, REST)
    write_smpl(tmp_path / "a.npz", fit, size, REST)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        kept = dict(file)
    assert np.abs(kept["smpl_poses"][:, 1]).max() > 20
    assert np.abs(np.diff(kept["smpl_poses"], axis=0)).max() < 0.5


@pytest.mark.parametrize("size", [1.0, 0.8])
def test_amass_keys_give_the_joints_back(tmp_path, size):
    """Z up, SMPL's own size: what an add-on for Blender does with them."""
    joints, _ = on_ground(dance(90, size=size))
    fit, found = fit_smpl(joints, REST)
    write_smpl(tmp_path / "a.npz", fit, found, REST, 60)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        kept = dict(file)
    assert kept["poses"].shape == (90, 156)
    assert (kept["poses"][:, 66:] == 0).all()
    assert (str(kept["gender"]), float(kept["mocap_framerate"]), len(kept["betas"])) == ("male", 60.0, 10)
    again = forward_kinematics(kept["poses"][:, :72], kept["trans"])
    np.testing.assert_allclose(
        again * size, fitted_joints(fit) @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=2e-5
    )
    assert np.abs(np.diff(kept["poses"], axis=0)).max() < 1.5


def sliding():
    """A dancer who stands for two seconds, feet sliding at 0.15 m/s and a little through the floor."""
    poses, t = np.zeros((120, 72)), np.arange(120) / 60
    poses[:, 3 * SMPL_24.index("left_knee")] = poses[:, 3 * SMPL_24.index("right_knee")] = 0.5
    poses[:, 3 * SMPL_24.index("left_hip")] = poses[:, 3 * SMPL_24.index("right_hip")] = -0.3
    root = np.stack([0.15 * np.sin(t), 0.01 * np.sin(5 * t), 0 * t], -1)
    return forward_kinematics(poses, root)


def test_locked_feet_stand():
    joints = sliding()
    floor = floor_height(joints)
    fit = fit_body(joints, REST)
    locked = lock_feet(fit, joints, floor)
    assert locked.planted > 0.9
    assert locked.skate_before > 0.05
    assert locked.skate_after < 0.2 * locked.skate_before
    assert locked.sunk_before > 0.001
    assert locked.sunk_after < 1e-4
    body = fitted_joints(locked.fit)
    assert bone_length_drift(body) < 1e-12
    feet = [joint for foot in SMPL_24.feet for joint in foot]
    legs = [SMPL_24.index(f"{side}_knee") for side in ("left", "right")] + feet
    rest = [joint for joint in range(24) if joint not in legs]
    np.testing.assert_allclose(body[:, rest], fitted_joints(fit)[:, rest], atol=1e-9)  # only legs move
    before, after = (np.abs(np.diff(p, 2, axis=0)).max() for p in (joints, body))
    assert after < before + 0.01  # eased, no jerks: at most a centimetre per frame squared
    # the foot points where it did
    toes = (
        [body[:, t] - body[:, a] for a, t in SMPL_24.feet],
        [fitted_joints(fit)[:, t] - fitted_joints(fit)[:, a] for a, t in SMPL_24.feet],
    )
    np.testing.assert_allclose(*toes, atol=1e-9)


def test_feet_in_the_air_are_left_alone():
    joints = dance(60)
    fit = fit_body(joints, REST)
    locked = lock_feet(fit, joints, floor=-5.0)
    np.testing.assert_allclose(fitted_joints(locked.fit), fitted_joints(fit), atol=1e-12)
    assert locked.planted == 0
    with pytest.raises(ValueError, match="frames"):
        lock_feet(fit, joints[:-1], floor=0.0)


def test_the_command(tmp_path, capsys):
    save_dance(tmp_path / "one.npz", Dance("one", sliding()))
    (tmp_path / "bad.npz").write_bytes(b"no")
    assert main([str(tmp_path / "one.npz"), "--footlock", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "mm" in said
    assert "feet planted" in said
    assert "degrees per frame" in said
    assert "stretches most" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"one.bvh", "one.glb", "one_smpl.npz"}
    paths = [str(tmp_path / name) for name in ("bad.npz", "gone.npz", "one.npz")]
    assert main([*paths, "--bvh"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "bad.npz" in errors[0]
    assert "gone.npz" in errors[1]
    assert (tmp_path / "one.bvh").is_file()  # one bad file does not lose the others
    assert not (tmp_path / "one.glb").exists()
    assert main([str(tmp_path / "one.npz"), "--npz"]) == 2  # the file itself
    assert "would be overwritten; name another folder with --out" in capsys.readouterr().err
    assert main([str(tmp_path / "one.npz"), "--npz", "--out", str(tmp_path / "out")]) == 0
    moved = load_dance(tmp_path / "one.npz").joints - load_dance(tmp_path / "out" / "one.npz").joints
    np.testing.assert_allclose(moved - moved[0, 0], 0, atol=1e-6)  # on the ground


def test_the_command_puts_dancers_on_the_ground(tmp_path):
    """In every file, unless raw heights are asked for."""
    joints = sliding() - np.array([0, 1.7, 0])
    save_dance(tmp_path / "one.npz", Dance("one", joints))
    floor = floor_height(joints)
    for words, height in (([], sole_thickness()), (["--raw-heights"], floor)):
        assert main([str(tmp_path / "one.npz"), *words, "--unit", "m", "--names", "vrm", "--every", "2"]) == 0
        parts = [tmp_path / f"one{suffix}" for suffix in ("_smpl.npz", ".bvh", ".glb")]
        toes = [SMPL_24.index(f"{side}_foot") for side in ("left", "right")]
        body = read_dance(parts[0])
        with np.load(parts[0]) as file:
            size = float(file["smpl_scaling"][0])
        assert np.median(size * body.joints[:, toes, 1].min(1)) == pytest.approx(height, abs=0.01)
        root = bvhio.readAsHierarchy(str(parts[1]))
        named = {joint.Name: joint for joint, _, _ in root.layout()}
        lowest = []
        for frame in range(0, 60, 5):
            root.loadPose(frame, recursive=True)
            lowest.append(min(named[f"{side}Toes"].PositionWorld.y for side in ("left", "right")))
        assert np.median(lowest) == pytest.approx(height, abs=0.01)
        glb = pygltflib.GLTF2().load(str(parts[2]))
        assert glb.accessors[glb.animations[0].samplers[0].input].count == 61
        assert [glb.nodes[node].name for node in (0, 1)] == ["root", "hips"]
        pelvis = glb.animations[0].channels[1]
        assert (pelvis.target.node, pelvis.target.path) == (1, "translation")
        values = glb.accessors[glb.animations[0].samplers[pelvis.sampler].output]
        start = glb.bufferViews[values.bufferView].byteOffset
        places = np.frombuffer(glb.binary_blob(), np.float32, 3 * values.count, start).reshape(-1, 3)
        above = np.median(joints[:, 0, 1]) - floor
        assert np.median(places[:, 1]) == pytest.approx(height + above, abs=0.01)


def test_chain_joints_are_those_of_smpl():
    rng = np.random.default_rng(2)
    poses = rng.normal(0, 0.5, (4, 72))
    quats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(4, 24, 4)
    truth = forward_kinematics(poses, np.zeros((4, 3)))
    offsets = REST - REST[np.maximum(SMPL_24.parents, 0)]
    np.testing.assert_allclose(chain_joints(offsets, quats, truth[:, 0], SMPL_24), truth, atol=1e-12)


def test_real_feet_skate_less():
    file = real_data() / "motions" / "gBR_sBM_cAll_d04_mBR0_ch01.pkl"
    joints = read_dance(file).joints
    floor = floor_height(joints)
    locked = lock_feet(fit_body(joints, REST), joints, floor)
    assert locked.skate_after < 0.1 * locked.skate_before
    # slides faster than a planted foot are the dancer's own and stay, so this ratio may not move much
    ratios = [foot_skate_ratio(p, floor=floor) for p in (joints, fitted_joints(locked.fit))]
    assert ratios[1] < ratios[0] + 0.05
    assert jitter(fitted_joints(locked.fit)) < 1.1 * jitter(joints)  # eased: no jerks are added
