"""The body's mesh in pictures: where it is, its colours, what hides what."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.body_models import save_npz
from tests.utils.render.test_render import pictures
from utils.body_model import BodyMotion, load_body_model
from utils.dance import Dance
from utils.render.body import BodyMesh
from utils.render.canvas import Canvas
from utils.render.scene import Scene
from utils.render.video import render_video
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics

FRAMES, WIDTH, HEIGHT = 20, 480, 270
INDEX = SMPL_24.index


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_body_model(save_npz(tmp_path_factory.mktemp("smpl") / "SMPL_MALE.npz"))


@pytest.fixture(scope="module")
def scene(model):
    """A dancer who stands, the left arm down, the right one in front."""
    poses = np.zeros((FRAMES, 24, 3))
    poses[:, INDEX("left_shoulder"), 2] = -1.2  # the arm hangs
    poses[:, INDEX("right_shoulder")] = [0, 1.2, 0]
    poses[:, INDEX("right_elbow")] = np.linspace([0, 0.2, 0], [0, 0.9, 0], FRAMES)
    root = np.tile([0.0, 0.95, 0.0], (FRAMES, 1))
    quats = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(FRAMES, 24, 4)
    joints = forward_kinematics(poses.reshape(FRAMES, 72), root - model.rest_joints[0], model.rest_joints)
    body = BodyMotion(model, quats, root)
    return Scene(joints, SMPL_24, 60.0, WIDTH, HEIGHT, np.zeros(FRAMES), body), body


def drawn(scene, frame):
    """The picture of a frame, (height, width, 3) in 0..255."""
    canvas = Canvas(WIDTH, HEIGHT)
    scene.draw(canvas, frame)
    return canvas.pixels[..., :3].astype(int)


def test_the_body_covers_its_own_pixels_and_no_others(scene, monkeypatch):
    scene, body = scene
    picture = drawn(scene, 10)
    monkeypatch.setattr(BodyMesh, "draw", lambda *_: None)
    changed = (picture != drawn(scene, 10)).any(-1)
    seen, _ = scene.camera.project(body.vertices(slice(10, 11))[0], 10)
    x, y = np.floor(seen).astype(int).T
    # vertices may lie on the outline: the pixel or one of its neighbours
    near = np.max([np.roll(changed, (a, b), (0, 1)) for a in (-1, 0, 1) for b in (-1, 0, 1)], axis=0)
    assert near[y, x].mean() > 0.99
    covered = np.zeros_like(changed)
    covered[y, x] = True
    for _ in range(6):
        covered |= np.roll(covered, 1, 0) | np.roll(covered, -1, 0)
        covered |= np.roll(covered, 1, 1) | np.roll(covered, -1, 1)
    assert not (changed & ~covered).any()
    assert 2500 < changed.sum() < 10000


def at(scene, body, picture, joint, frame=10):
    """The colour where a joint is seen."""
    points = forward(body, frame)[INDEX(joint)]
    seen, _ = scene.camera.project(points, frame)
    x, y = np.floor(seen).astype(int)
    return picture[y, x]


def forward(body, frame):
    """Joints (24, 3) of a frame."""
    translation = body.root[[frame]] - body.model.rest_joints[0]
    return body.model.posed(body.matrices(slice(frame, frame + 1)), translation)[1][0]


def test_halves_and_sides_have_their_colours(scene):
    scene, body = scene
    picture = drawn(scene, 10)
    for joint in ("left_knee", "right_knee", "left_ankle"):
        red, _, blue = at(scene, body, picture, joint)
        assert blue > red + 60
    for joint in ("left_elbow", "right_elbow", "head"):
        red, _, blue = at(scene, body, picture, joint)
        assert red > blue + 50
    left, right = (at(scene, body, picture, f"{side}_knee").min() for side in ("left", "right"))
    assert left > right + 20  # the left side is lighter


def test_what_is_nearer_hides_what_is_behind(scene, model):
    scene, body = scene
    hand = forward(body, 10)[INDEX("right_hand")]
    seen, _ = scene.camera.project(hand, 10)
    x, y = np.floor(seen).astype(int)
    behind = BodyMotion(model, body.rotations.copy(), body.root)
    behind.rotations[:, INDEX("right_shoulder")] = Rotation.from_rotvec([0, -1.2, 0]).as_quat()
    other = Scene(scene.joints, SMPL_24, 60.0, WIDTH, HEIGHT, np.zeros(FRAMES), behind)
    with_arm, without = drawn(scene, 10)[y, x], drawn(other, 10)[y, x]
    assert (np.abs(with_arm - without) > 15).any()
    red, _, blue = with_arm
    assert red > blue + 40


def test_a_frame_does_not_depend_on_those_before(scene):
    scene, body = scene
    first = drawn(scene, 18)
    for frame in (0, 17, 3):
        drawn(scene, frame)
    np.testing.assert_array_equal(drawn(scene, 18), first)
    fresh = Scene(scene.joints, SMPL_24, 60.0, WIDTH, HEIGHT, np.zeros(FRAMES), body)
    np.testing.assert_array_equal(drawn(fresh, 18), first)


def test_the_video_shows_the_body_instead_of_limbs(scene, tmp_path):
    scene, body = scene
    dance = Dance("a", scene.joints.astype(np.float32))
    render_video(tmp_path / "limbs.mp4", dance, height=180)
    render_video(tmp_path / "body.mp4", dance, height=180, body=body)
    limbs, mesh = (pictures(tmp_path / f"{name}.mp4").astype(int) for name in ("limbs", "body"))
    assert len(limbs) == len(mesh) == FRAMES
    differs = np.abs(limbs - mesh).max(-1) > 30
    assert 0.002 < differs.mean() < 0.2
    assert not differs[:, :, :80].any()  # the room around it is the same
