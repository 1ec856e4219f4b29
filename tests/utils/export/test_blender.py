"""docs/BLENDER.md carried out with Blender as a Python module; skipped where it is not to be had.

BPY_PYTHON names a Python that has bpy (`pip install bpy==4.2.0 "numpy<2"`); else the current one is tried.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.body_models import save_npz
from tests.utils.export.test_mesh import motion
from utils.body_model import load_body_model
from utils.export import fit_body, fitted_joints, write_bvh, write_glb
from utils.export.mesh import write_mesh
from utils.export.names import TABLES
from utils.floor import on_ground, sole_thickness
from utils.music import audio
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics, rest_joints

FRAMES = 181
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # y up -> z up
SAMPLED = [*range(0, FRAMES, 6), *(frame + 0.5 for frame in range(0, FRAMES - 1, 6))]


class Seen(NamedTuple):
    """What Blender has: bones, joints (N, 24, 3) z up, lowest vertex per frame, rest joints, and facts."""

    names: list[str]
    joints: np.ndarray
    ground: np.ndarray
    lowest: np.ndarray
    rest: np.ndarray
    facts: dict


@pytest.fixture(scope="module")
def blender():
    """Runs the probe in a Python that has bpy."""
    named = os.environ.get("BPY_PYTHON")
    if named is None and importlib.util.find_spec("bpy") is None:
        pytest.skip(
            'Blender is not here: set BPY_PYTHON to a Python with bpy (pip install bpy==4.2.0 "numpy<2")'
        )

    def look(path: Path, names: str = "smpl", **more) -> Seen:
        out, request = path.with_suffix(".seen.npz"), path.with_suffix(".json")
        given = {"file": str(path), "out": str(out), "frames": SAMPLED, **more}
        request.write_text(json.dumps(given))
        command = [named or sys.executable, str(Path(__file__).with_name("blender_probe.py")), str(request)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert out.is_file(), done.stderr[-3000:]
        with np.load(out) as file:
            seen = dict(file)
        bones = [str(name) for name in seen["names"]]
        places = [bones.index(TABLES[names][joint]) for joint in SMPL_24.joints]
        root = bones.index("root")
        return Seen(
            bones,
            seen["joints"][:, places],
            seen["joints"][:, root],
            seen["lowest"],
            seen["rest"][places],
            json.loads(str(seen["facts"])),
        )

    return look


@pytest.fixture(scope="module")
def fit():
    """A dancer who steps from foot to foot, turns twice, and bends knees and elbows to gimbal lock."""
    t = np.arange(FRAMES) / 60
    poses = np.zeros((FRAMES, 24, 3))
    poses[:, 0, 1] = 4.5 * t
    for side, sign in (("left", 1), ("right", -1)):
        lift = np.maximum(sign * np.sin(2 * np.pi * t), 0)
        poses[:, SMPL_24.index(f"{side}_hip"), 0] = -1.3 * lift
        poses[:, SMPL_24.index(f"{side}_hip"), 2] = 0.2 * np.sin(5 * t)
        poses[:, SMPL_24.index(f"{side}_knee"), 0] = 1.6 * lift
        poses[:, SMPL_24.index(f"{side}_shoulder"), 2] = -sign * (0.9 + 0.4 * np.sin(4 * t))
        poses[:, SMPL_24.index(f"{side}_elbow"), 1] = -sign * (1.5 + 0.3 * np.sin(3 * t))
    poses[:, 3, 0] = 0.2 * np.sin(3 * t)
    joints = forward_kinematics(poses.reshape(FRAMES, 72), np.zeros((FRAMES, 3)))
    toes = joints[:, [10, 11], 1].min(1)
    joints[..., 1] -= toes[:, None] - 0.4  # one foot always stands, somewhere
    joints[..., 0] += 0.5 * t[:, None]
    joints, _ = on_ground(joints)
    return fit_body(joints, rest_joints())


def expected(fit, frames):
    """Joints (N, 24, 3) z up at frames; between two, as far as straight lines tell."""
    joints = fitted_joints(fit) @ Z_UP
    low = np.floor(frames).astype(int)
    part = (np.asarray(frames) - low)[:, None, None]
    return joints[low] * (1 - part) + joints[np.minimum(low + 1, FRAMES - 1)] * part


def compare(seen: Seen, fit, within_mm=0.1):
    """Joints, at and between frames, and the ground."""
    whole = np.array(SAMPLED) % 1 == 0
    error = 1000 * np.linalg.norm(seen.joints - expected(fit, SAMPLED), axis=-1)
    worst = error[whole].max(), error[~whole].max()
    print(f"mm at frames: mean {error[whole].mean():.4f}, worst {worst[0]:.4f}; half-way: {worst[1]:.3f}")
    assert error[whole].max() < within_mm
    # a joint that turns by d degrees a frame leaves the straight line by its arm times d² / 8: some mm here
    assert error[~whole].max() < 3
    np.testing.assert_allclose(seen.ground[:, 2], 0, atol=1e-5)
    np.testing.assert_allclose(seen.ground[:, :2], seen.joints[:, 0, :2], atol=1e-5)
    assert seen.joints[whole][..., 2].min(1) == pytest.approx(sole_thickness(), abs=0.005)
    # left is left: x points to the dancer's left at rest, and the dancer faces -y
    assert (seen.rest[SMPL_24.index("left_hip")] - seen.rest[SMPL_24.index("right_hip")])[0] > 0.1
    assert (seen.rest[SMPL_24.index("left_foot")] - seen.rest[SMPL_24.index("left_ankle")])[1] < -0.1


def song(folder: Path) -> str:
    audio.write_wav(folder / "song.wav", np.zeros(3 * 44100, np.float32), 44100)
    return str(folder / "song.wav")


def test_glb(blender, fit, tmp_path):
    write_glb(tmp_path / "a.glb", fit)
    seen = blender(tmp_path / "a.glb", song=song(tmp_path))
    assert len(seen.names) == 25
    assert seen.facts["fps"] == 60
    assert seen.facts["action"] == seen.facts["scene"] == [0, FRAMES - 1]
    assert seen.facts["keys"] == FRAMES
    assert seen.facts["song"] in (180, -1)  # -1: Blender as a module comes without sound
    compare(seen, fit)
    assert seen.facts["rest_lowest_mesh"] == pytest.approx(0, abs=1e-5)  # the rest pose stands
    assert np.abs(seen.lowest).max() < 0.02  # and so does the skin in the dance; a pointed toe digs a little


def test_mesh(blender, tmp_path):
    """The mesh of a body that rolls is where SMPL has it, corrections for the pose included."""
    body = motion(load_body_model(save_npz(tmp_path / "SMPL_MALE.npz")))
    turned = Rotation.from_euler("x", 90, degrees=True) * Rotation.from_quat(body.rotations[:, 0])
    body.rotations[:, 0] = turned.as_quat()
    write_mesh(tmp_path / "a.glb", body)
    frames = list(range(0, len(body.root), 3))
    seen = blender(tmp_path / "a.glb", frames=frames)
    assert seen.facts["meshes"] == 1
    lowest = np.concatenate([body.vertices(slice(frame, frame + 1)) for frame in frames])[..., 1].min(1)
    assert np.ptp(lowest) > 0.05
    np.testing.assert_allclose(seen.lowest, lowest, atol=6e-4)


def test_bvh(blender, fit, tmp_path):
    write_bvh(tmp_path / "a.bvh", fit)
    seen = blender(tmp_path / "a.bvh", song=song(tmp_path))
    assert len(seen.names) == 25
    assert seen.facts["fps"] == pytest.approx(60, abs=1e-6)
    assert seen.facts["action"] == [1, FRAMES]
    assert seen.facts["scene"] == [1, max(250, FRAMES + 1)]  # hence the step that sets the end
    assert seen.facts["keys"] == FRAMES
    assert seen.facts["song"] in (180, -1)  # -1: Blender as a module comes without sound
    compare(seen, fit)


def test_every_second_frame_takes_as_long(blender, fit, tmp_path):
    for path, write, first in ((tmp_path / "a.bvh", write_bvh, 1), (tmp_path / "a.glb", write_glb, 0)):
        write(path, fit, every=2)
        frames = [frame / 2 for frame in range(0, FRAMES, 6)]
        seen = blender(path, frames=frames, fps=30)
        assert seen.facts["fps"] == pytest.approx(30, abs=1e-6)
        assert seen.facts["action"] == [first, first + 90]
        error = np.linalg.norm(seen.joints - expected(fit, range(0, FRAMES, 6)), axis=-1)
        even = np.arange(len(frames)) % 1 == 0
        assert 1000 * error[even].max() < 0.1


def test_fbx(blender, fit, tmp_path):
    write_glb(tmp_path / "a.glb", fit, names="mixamo")
    seen = blender(tmp_path / "a.glb", names="mixamo", fbx=str(tmp_path / "a.fbx"))
    assert (tmp_path / "a.fbx").stat().st_size > 10_000
    assert set(seen.names) == {"root", *TABLES["mixamo"].values()}
    assert seen.facts["meshes"] == 1
    assert seen.facts["keys"] == FRAMES
    compare(seen, fit, within_mm=0.5)


def test_pictures(blender, fit, tmp_path):
    """Something stands on the ground: the lower half of the picture is not empty."""
    from matplotlib.image import imread

    write_glb(tmp_path / "a.glb", fit)
    blender(tmp_path / "a.glb", frames=[40], render=str(tmp_path))
    picture = imread(tmp_path / "0.png")[..., :3]
    blue = (picture[..., 2] > picture[..., 0] + 0.15).mean()
    red = (picture[..., 0] > picture[..., 2] + 0.15).mean()
    assert 0.005 < blue < 0.1  # legs
    assert 0.005 < red < 0.1  # arms and head
