import logging
import wave

import av
import matplotlib.image
import numpy as np
import pytest

from datasets.smpl import rest_joints
from tests.helpers import real_data
from utils.render.camera import Camera, floor_height, following
from utils.render.canvas import Canvas
from utils.render.figure import LOWER, UPPER, Palette, capsules, limb_colours
from utils.render.gallery import GalleryPanel, draw_gallery, draw_usage
from utils.render.ground import draw_grid, grid_chords, grid_light
from utils.render.scene import floor_distance
from utils.render.video import beat_frames, beat_strengths, render_side_by_side, render_video
from utils.skeleton import SMPL_24

FRAMES = 45
HEIGHT = 180


def dance(frames=FRAMES, floor=0.0):
    """The rest pose, swaying and travelling."""
    rest = rest_joints()
    rest = rest - [0, rest[:, 1].min() - floor - 0.02, 0]
    time = np.arange(frames) / 60
    travel = np.stack([0.3 * np.sin(3 * time), 0 * time, 0.4 * time], 1)
    return (rest + travel[:, None]).astype(np.float32)


def song(path, seconds, rate=22050):
    samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def pictures(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sound(path):
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1), rate


def near(pixels, colour, within=0.08):
    return (np.abs(pixels / 255 - np.asarray(colour)) < within).all(-1)


def test_the_video_has_the_size_length_codecs_and_order_that_browsers_play(tmp_path):
    render_video(tmp_path / "new" / "a.mp4", dance(), song=song(tmp_path / "s.wav", 3), height=HEIGHT)
    path = tmp_path / "new" / "a.mp4"
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height, video.average_rate) == (320, HEIGHT, 60)
        assert audio.codec_context.name == "aac"
        assert float(video.duration * video.time_base) == pytest.approx(FRAMES / 60, abs=1e-3)
        assert float(audio.duration * audio.time_base) == pytest.approx(FRAMES / 60, abs=0.1)
    assert len(pictures(path)) == FRAMES
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_the_sound_is_the_song_and_a_shorter_song_stays_short(tmp_path):
    for seconds in (3.0, 0.4):
        render_video(tmp_path / "a.mp4", dance(), song=song(tmp_path / "s.wav", seconds), height=64)
        samples, rate = sound(tmp_path / "a.mp4")
        assert samples.shape[1] / rate == pytest.approx(min(seconds, FRAMES / 60), abs=0.1)
        middle = samples[0, rate // 10 : rate // 10 + rate // 5]
        peak = np.abs(np.fft.rfft(middle)).argmax() * rate / len(middle)
        assert peak == pytest.approx(440, abs=10)


def test_a_missing_song_gives_a_silent_video_and_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        render_video(tmp_path / "a.mp4", dance(5), song=tmp_path / "nowhere.wav", height=64)
    assert len(caplog.records) == 1
    assert "nowhere.wav" in caplog.text
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert not container.streams.audio


def test_a_broken_song_is_named_and_no_video_is_left(tmp_path):
    (tmp_path / "bad.wav").write_text("this is no sound")
    with pytest.raises(ValueError, match=r"bad\.wav"):
        render_video(tmp_path / "a.mp4", dance(5), song=tmp_path / "bad.wav", height=64)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.wav"]


def test_halves_and_sides_have_their_colours_in_their_places(tmp_path):
    render_video(tmp_path / "a.mp4", dance(3), height=360)
    picture = pictures(tmp_path / "a.mp4")[0]
    colours = dict(
        zip(
            [SMPL_24.joints[child] for _, child in SMPL_24.bones],
            limb_colours(SMPL_24, Palette()),
            strict=False,
        )
    )
    rows, columns = {}, {}
    for name in ("left_elbow", "right_elbow", "left_knee", "right_knee"):
        y, x = np.nonzero(near(picture, colours[name]))
        assert len(y) > 30, name
        rows[name], columns[name] = y.mean(), x.mean()
    for side in ("left", "right"):
        assert rows[f"{side}_elbow"] < rows[f"{side}_knee"]
    for joint in ("elbow", "knee"):
        assert columns[f"right_{joint}"] < columns[f"left_{joint}"]  # the dancer faces us


def test_the_codes_of_the_moment_are_shown(tmp_path):
    codes = np.array([[1, 2], [1, 345]])
    render_video(tmp_path / "a.mp4", dance(24), codes=codes, frames_per_code=8, height=270)
    shown = pictures(tmp_path / "a.mp4").astype(int)
    chips = shown[:, 270 - 33 : 270 - 18, 13:122]
    upper, lower = chips[:, 3:-3, 4:48], chips[:, 3:-3, 61:-4]
    change = np.abs(lower[9:24].mean(0) - lower[:7].mean(0)).max()
    assert change > 60
    assert np.abs(upper[9:24].mean(0) - upper[:7].mean(0)).max() < 20
    assert np.abs(lower[23] - lower[9]).max() < 30  # the last code stays
    assert near(chips[0], np.asarray(UPPER) * 0.88 + 0.12).sum() > 100
    assert near(chips[0], np.asarray(LOWER) * 0.88 + 0.12).sum() > 100


def test_a_beat_flashes_and_fades(tmp_path):
    flags = np.zeros(200, bool)  # longer than the dance
    flags[[20, 150]] = True
    still = np.repeat(dance(1), 45, 0)
    render_video(tmp_path / "a.mp4", still, music_beats=flags, height=HEIGHT)
    render_video(tmp_path / "b.mp4", still, height=HEIGHT)
    floor = slice(130, 172)
    gold = [
        (picture[floor, :, 0].astype(int) - picture[floor, :, 2] > 40).sum()
        for picture in pictures(tmp_path / "a.mp4")
    ]
    assert max(gold[:20]) == 0
    assert gold[20] > 100
    assert gold[44] < gold[20] / 2
    plain = pictures(tmp_path / "b.mp4")[:, floor]
    assert (plain[..., 0].astype(int) - plain[..., 2] > 40).sum() == 0


def test_beats_are_flags_or_frames():
    flags = np.zeros(30, bool)
    flags[[3, 12, 25]] = True
    assert beat_frames(flags, 20).tolist() == [3, 12]
    assert beat_frames(np.array([25, 12, 3, -1, 12]), 20).tolist() == [3, 12]
    assert beat_frames(None, 20).tolist() == []
    strengths = beat_strengths(np.array([3, 12]), 20, 60)
    assert strengths[:3].tolist() == [0, 0, 0]
    assert strengths[[3, 12]].tolist() == [1, 1]
    assert (np.diff(strengths[3:12]) < 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": np.zeros((5, 22, 3))}, r"\(T, 24, 3\).*\(5, 22, 3\)"),
        ({"joints": np.zeros((0, 24, 3))}, "empty"),
        ({"joints": np.full((5, 24, 3), np.nan)}, "5 of 5 frames hold NaN"),
        ({"codes": np.zeros((5, 3), int)}, "codes"),
        ({"codes": np.zeros((5, 2))}, "codes.*float64"),
        ({"music_beats": np.zeros((5, 2), bool)}, "music_beats"),
        ({"music_beats": np.zeros(5)}, "music_beats.*float64"),
        ({"fps": 0}, "fps 0"),
        ({"height": 10}, "height 10"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    arguments = {"joints": dance(5), **change}
    with pytest.raises(ValueError, match=message):
        render_video(tmp_path / "a.mp4", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_input_is_left_alone(tmp_path):
    joints, codes = dance(4), np.array([[1, 2]])
    before = joints.copy(), codes.copy()
    joints.setflags(write=False)
    render_video(tmp_path / "a.mp4", joints, codes=codes, height=64)
    assert np.array_equal(joints, before[0])
    assert np.array_equal(codes, before[1])


def test_dances_side_by_side_end_with_the_shortest(tmp_path):
    dances = {"real": dance(12), "ours": dance(9)}
    render_side_by_side(tmp_path / "a.mp4", dances, height=HEIGHT, music_beats=np.array([2]))
    shown = pictures(tmp_path / "a.mp4")
    assert shown.shape == (9, HEIGHT, 2 * 136, 3)
    knee = limb_colours(SMPL_24, Palette())[3]
    for panel in (shown[0, :, :136], shown[0, :, 136:]):
        assert near(panel, knee, 0.12).sum() > 10
    with pytest.raises(ValueError, match="no dance"):
        render_side_by_side(tmp_path / "b.mp4", {})


def test_the_drawn_floor_is_that_of_the_feet_not_zero():
    for floor in (-1.3, 0.0, 0.7):
        joints = dance(100, floor)
        joints[40, 10, 1] -= 0.5  # one frame of a foot below the floor does not move it
        assert floor_height(joints, SMPL_24) == pytest.approx(floor, abs=0.01)


def test_the_floor_of_real_dances_is_under_their_feet():
    from datasets.smpl import forward_kinematics
    from utils.pickles import load_pickle

    for path in sorted((real_data() / "motions").glob("*.pkl")):
        motion = load_pickle(path.read_bytes(), path.name)
        joints = forward_kinematics(motion["smpl_poses"], motion["smpl_trans"] / motion["smpl_scaling"])
        lowest = joints[:, [7, 8, 10, 11], 1].min(1)
        high = lowest - floor_height(joints, SMPL_24)
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


def test_the_gallery_is_a_picture_with_only_its_half_in_colour(tmp_path):
    panels = [GalleryPanel(f"code {k}", dance(16), 0.1 / (k + 1)) for k in range(5)]
    for half in ("upper", "lower"):
        draw_gallery(tmp_path / f"{half}.png", panels, half, "five codes")
    upper, lower = (matplotlib.image.imread(tmp_path / f"{half}.png")[..., :3] for half in ("upper", "lower"))
    assert upper.shape == lower.shape
    assert upper.shape[0] > 400
    counts = {}
    for half, picture in (("upper", upper), ("lower", lower)):
        warmth = picture[..., 0] - picture[..., 2]
        counts[half] = (warmth > 0.3).sum(), (warmth < -0.3).sum()
    assert counts["upper"][0] > 2000
    assert counts["upper"][1] < 10
    assert counts["lower"][0] < 10
    assert counts["lower"][1] > 2000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lower.png", "upper.png"]


def test_bad_galleries_are_refused(tmp_path):
    good = GalleryPanel("good", dance(4), 0.5)
    for panels, half, message in (
        ([], "upper", "no panels"),
        ([good], "middle", "middle"),
        ([good._replace(title="odd", joints=np.zeros((4, 3)))], "upper", "odd"),
        ([good._replace(title="hole", joints=np.full((4, 24, 3), np.nan))], "upper", "hole"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_gallery(tmp_path / "a.png", panels, half, "title")
    with pytest.raises(ValueError, match="lower half"):
        draw_usage(tmp_path / "a.png", {"upper": np.ones(4), "lower": np.zeros(4)})
    assert not list(tmp_path.iterdir())


def test_the_usage_is_a_picture_of_two_histograms(tmp_path):
    draw_usage(tmp_path / "usage.png", {"upper": np.array([5, 0, 1]), "lower": np.ones(8, int)})
    picture = matplotlib.image.imread(tmp_path / "usage.png")[..., :3]
    assert near(255 * picture, UPPER, 0.02).sum() > 1000
    assert near(255 * picture, LOWER, 0.02).sum() > 1000
