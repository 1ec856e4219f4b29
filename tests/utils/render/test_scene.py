"""What videos are drawn of: floor, camera, grid, shapes."""

import numpy as np
import pytest

from tests.helpers import real_data
from tests.swaying import dance
from utils.floor import ground_height
from utils.render.camera import Camera, following
from utils.render.canvas import Canvas
from utils.render.figure import capsules
from utils.render.ground import draw_grid, grid_chords, grid_light
from utils.render.scene import floor_distance


def test_the_drawn_floor_is_that_of_the_feet_not_zero():
    for floor in (-1.3, 0.0, 0.7):
        joints = dance(100, floor)
        joints[40, 10, 1] -= 0.5  # one frame of a foot below the floor does not move it
        assert ground_height(joints) == pytest.approx(floor, abs=0.01)


def test_the_floor_of_real_dances_is_under_their_feet():
    from utils.pickles import load_pickle
    from utils.smpl import forward_kinematics

    for path in sorted((real_data() / "motions").glob("*.pkl")):
        motion = load_pickle(path.read_bytes(), path.name)
        joints = forward_kinematics(motion["smpl_poses"], motion["smpl_trans"] / motion["smpl_scaling"])
        lowest = joints[:, [7, 8, 10, 11], 1].min(1)
        high = lowest - ground_height(joints)
        assert 0.0 < np.median(high) < 0.06, path.name


def test_the_camera_follows_without_jerks_and_the_grid_stays_in_the_world():
    joints = dance(300)
    joints += np.random.default_rng(0).normal(0, 0.02, (300, 1, 3)).astype(np.float32)
    camera = following(joints, 0.0, 60, 960, 540)
    jerk = np.abs(np.diff(camera.targets, 2, axis=0)).max()
    assert jerk < 5e-4 < np.abs(np.diff(joints[:, 0], 2, axis=0)).max()
    seen, _ = camera.project(joints, slice(0, 300))
    assert ((seen > 0) & (seen < [960, 540])).all()
    spot = np.array([[0.0, 0.0, 0.0]])
    start, end = (camera.project(spot, frame)[0][0] for frame in (0, 299))
    assert end[1] < start[1] - 50  # the dancer came nearer by 2 m, so a spot of the floor goes back
    centre, scale = camera.project(camera.targets[7], 7)
    assert centre == pytest.approx([480, 270])
    assert scale == pytest.approx(540 / camera.span)


def test_chords_of_the_grid_lie_on_whole_metres_and_end_on_the_circle():
    centre = np.array([0.3, -7.6])
    chords = grid_chords(centre, 2.5)
    assert np.linalg.norm(chords - centre, axis=-1) == pytest.approx(2.5)
    still = np.ptp(chords, axis=1) == 0
    assert (still.sum(1) == 1).all()
    fixed = chords[:, 0][still]
    assert sorted(fixed[still[:, 0]]) == [-2, -1, 0, 1, 2]
    assert sorted(fixed[still[:, 1]]) == [-10, -9, -8, -7, -6]


@pytest.mark.parametrize(("yaw", "height"), [(0.3, 270), (0.0, 270), (0.3, 1080)])
def test_the_grid_is_drawn_where_the_world_has_whole_metres(yaw, height):
    target, floor = np.array([[12.4, 0.4, -3.3]]), -0.5
    camera = Camera(target, 2.5, height * 16 // 9, height, yaw=yaw)
    canvas = Canvas(camera.width, height)
    canvas.pixels[:] = 40, 40, 40, 255
    before = canvas.pixels.copy()
    light = grid_light(camera, before, floor_distance(camera, floor))
    draw_grid(canvas, camera, 0, floor, light)
    change = canvas.pixels[..., 2].astype(int) - before[..., 2]
    assert (canvas.pixels[..., 3] == 255).all()

    def at(x, z, reach=1):
        (column, row), _ = camera.project(np.array([x, floor, z]), 0)
        row, column = int(row), int(column)
        return change[row - reach : row + reach + 1, column - reach : column + reach + 1].max()

    near_by, far_off = at(12, -3.4), at(12, -5.4)
    assert near_by > 30
    assert 5 < far_off < near_by  # fades
    assert at(12.5, -3) > 30
    assert at(12.5, -3.5) == at(11.5, -4.5) == 0  # the middle of a cell
    assert change.min() == 0
    assert 0.002 < (change > 0).mean() < 0.1
    assert (change[: height // 8] == 0).all()  # the sky


def test_later_shapes_cover_earlier_ones_and_colours_are_taken_in_turn():
    canvas = Canvas(30, 20)
    canvas.pixels[:] = 0, 0, 0, 255
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    corners = square + np.array([[[2, 2]], [[8, 2]], [[18, 8]]])
    fills = np.array([[1, 0, 0, 1], [0, 1, 0, 1]], float)
    canvas.shapes(corners, fills, np.zeros((1, 4)), np.zeros(1))
    shown = {(4, 4): (255, 0, 0), (10, 10): (0, 255, 0), (20, 12): (255, 0, 0), (28, 2): (0, 0, 0)}
    for (x, y), colour in shown.items():
        assert tuple(canvas.pixels[y, x, :3]) == colour, (x, y)


def test_capsules_touch_both_discs():
    ends, radii = np.array([[0.0, 0.0], [10.0, 5.0]]), np.array([2.0, 1.0])
    outline = capsules(ends, radii)
    reach = np.linalg.norm(outline[:, None] - ends, axis=-1) - radii
    assert np.abs(reach.min(1)).max() < 1e-9
    inside = capsules(np.zeros((2, 2)), radii)  # no length: the larger disc alone
    assert np.linalg.norm(inside, axis=-1).max() == pytest.approx(2)
