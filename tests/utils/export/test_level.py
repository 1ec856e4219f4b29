"""The floor under a dance: its slow drift goes, and nothing else."""

import itertools

import numpy as np
import pytest

from tests.helpers import real_data
from utils.dance import Dance, save_dance
from utils.export import LevelStream, level_floor
from utils.export.__main__ import main
from utils.metrics.reading import read_dance
from utils.smpl import rest_joints

STEP = 0.5  # seconds


def jumping(seconds, fps=60):
    """A figure that walks about and jumps 0.3 m high every fourth step: (T, 24, 3)."""
    t = np.arange(round(seconds * fps)) / fps
    into = (t / STEP) % 4
    height = np.where(into < 1, 1.2 * into * (1 - into), 0)
    root = np.stack([np.sin(t), height, 0.3 * t], -1)
    return (rest_joints() + root[:, None]).astype(np.float32)


@pytest.mark.parametrize("fps", [60, 30])
def test_drift_goes_and_jumps_stay(fps):
    still = jumping(90, fps)
    t = np.arange(len(still)) / fps
    risen = still.copy()
    risen[..., 1] += (0.004 * t + 0.1 * np.sin(2 * np.pi * t / 60))[:, None]
    levelled, wandered = level_floor(risen, fps)
    assert levelled.dtype == np.float32
    assert 0.25 < wandered < 0.45
    np.testing.assert_array_equal(levelled[..., ::2], risen[..., ::2])
    np.testing.assert_array_equal(levelled[0], risen[0])
    off = levelled[..., 1] - still[..., 1]
    assert np.abs(off).max() < 0.06  # at the ends the windows are cut
    assert np.abs(np.diff(off.mean(1))).max() * fps < 0.02  # m/s: nothing jerks
    assert np.ptp(risen[..., 1] - still[..., 1]) > 0.3


def test_a_level_dance_is_left_alone():
    still = jumping(60)
    levelled, wandered = level_floor(still, 60)
    assert wandered < 1e-3
    np.testing.assert_allclose(levelled, still, atol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 100])
def test_short_dances(frames):
    levelled, _ = level_floor(jumping(2)[:frames], 60)
    assert levelled.shape == (frames, 24, 3)
    assert np.isfinite(levelled).all()


def in_pieces(joints, fps, sizes):
    stream, parts, at = LevelStream(fps), [], 0
    while at < len(joints):
        size = next(sizes)
        parts.append(stream.push(joints[at : at + size]))
        at += size
    return np.concatenate(parts)


@pytest.mark.parametrize("fps", [60, 30])
def test_a_stream_is_levelled_from_its_past(fps):
    """Also after ten minutes; whatever the pieces, empty ones among them."""
    still = jumping(600, fps)
    risen = still.copy()
    risen[..., 1] += (0.004 * np.arange(len(still)) / fps)[:, None]
    levelled = in_pieces(risen, fps, itertools.repeat(fps))
    assert levelled.dtype == np.float32
    np.testing.assert_array_equal(levelled[..., ::2], risen[..., ::2])
    np.testing.assert_array_equal(levelled[: 2 * fps], risen[: 2 * fps])
    off = (levelled - still)[..., 1].mean(1)
    assert np.abs(off).max() < 0.03
    assert np.abs(np.diff(off)).max() * fps < 0.03  # m/s: nothing jerks
    pieces = itertools.cycle([0, 1, 7, 500, 8, 3])
    np.testing.assert_array_equal(in_pieces(risen, fps, pieces), levelled)


def test_hands_count_as_feet():
    """A handstand of many seconds is not pulled through the floor."""
    still = jumping(40)
    upside = still[0].mean(0)[1] * 2
    still[600:1800, :, 1] = upside - still[600:1800, :, 1]
    lowest = still[600:1800, :, 1].min()
    still[600:1800, :, 1] += still[0, :, 1].min() - lowest
    levelled, wandered = level_floor(still, 60)
    assert wandered < 0.35  # the height of its jumps, upside down
    assert levelled[:, :, 1].min() > still[:, :, 1].min() - 0.35


def test_real_dances_hardly_change():
    for path in sorted((real_data() / "motions").glob("*.pkl")):
        dance = read_dance(path)
        assert level_floor(dance.joints, dance.fps)[1] < 0.04, path.name  # metres; the longest is 32 s


def test_the_command(tmp_path, capsys):
    risen = jumping(20)
    risen[..., 1] += np.linspace(0, 1, len(risen))[:, None]
    save_dance(tmp_path / "one.npz", Dance("one", risen))
    assert main([str(tmp_path / "one.npz"), "--smpl", "--level"]) == 0
    assert "the floor drifted by" in capsys.readouterr().out
    assert (tmp_path / "one_smpl.npz").is_file()
