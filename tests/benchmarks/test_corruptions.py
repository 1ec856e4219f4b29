"""The corruption table: what the damages do, the verdicts, and a small table."""

import numpy as np
import pytest

from tests.benchmarks.corruptions import DAMAGES, LEVELS, compare, main, verdict
from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance, Reference
from utils.metrics.physical import foot_skate_ratio, freezing, jitter
from utils.skeleton import SMPL_24


def dances(number=6, seconds=8):
    beats = [np.arange(5 + 3 * i, 60 * seconds, 24 + 2 * i) for i in range(number)]
    return [Dance(f"d{i}", smooth_dance(i, seconds), beats[i], song=f"s{i}") for i in range(number)]


def damaged(name, level):
    return DAMAGES[name](dances(), level, np.random.default_rng(0))


def test_damages_do_what_they_say():
    plain = dances()
    for level in LEVELS:
        for name in DAMAGES:
            some = damaged(name, level)
            assert [d.name for d in some] == [d.name for d in plain]
            assert all(d.joints.shape == p.joints.shape for d, p in zip(some, plain, strict=True))
        rest = [damaged("noise", level)[0].joints - plain[0].joints]
        assert np.std(rest) == pytest.approx(0.001 * 2**level, rel=0.05)
        shifted = damaged("time shift", level)[0].joints
        np.testing.assert_array_equal(shifted[3 * level :], plain[0].joints[: -3 * level])
        for name, number in (("wrong song", 2), ("mirrored halves", 2)):
            changed = [
                d.song != p.song or not np.array_equal(d.joints, p.joints)
                for d, p in zip(damaged(name, level), plain, strict=True)
            ]
            assert sum(changed) == number * level
    jitters = [jitter(damaged("smoothing", level)[0].joints) for level in LEVELS]
    assert jitter(plain[0].joints) > jitters[0] > jitters[1] > jitters[2]
    assert freezing(damaged("held poses", 3)[0].joints) == 1
    still = Dance("still", np.repeat(plain[0].joints[:1], 300, 0))
    slides = [
        foot_skate_ratio(DAMAGES["sliding feet"]([still], k, np.random.default_rng(0))[0].joints)
        for k in LEVELS
    ]
    assert slides[0] == slides[1] == 0  # below the threshold of 0.5 m/s
    assert slides[2] > 0.9


def test_a_mirrored_half_is_the_mirror_image():
    before, after = dances()[0].joints, damaged("mirrored halves", 1)[0].joints
    left, right = SMPL_24.index("left_foot"), SMPL_24.index("right_foot")
    image = (before[:, right] - before[:, 0]) * np.array([-1, 1, 1])
    np.testing.assert_allclose(after[:, left] - after[:, 0], image)
    np.testing.assert_array_equal(after[:, list(SMPL_24.upper)], before[:, list(SMPL_24.upper)])


def test_verdicts():
    assert verdict("FID_k", 5.0, [6, 7, 9], 1.0) == "right"
    assert verdict("FID_k", 5.0, [6, 5.5, 9], 1.0) == "partly"
    assert verdict("FID_k", 5.0, [5.5, 5.6, 5.7], 1.0) == "blind"
    assert verdict("FID_k", 5.0, [4.5, 3.5, 9], 1.0) == "wrong"
    assert verdict("BAS", 0.5, [0.4, 0.3, 0.2], 0.05) == "right"
    assert verdict("BAS", 0.5, [0.5, 0.6, 0.7], 0.05) == "wrong"
    assert verdict("jitter", 100, [90, 70, 20], 5) == "right"  # near real is good
    assert verdict("brake", np.nan, [1, 2, 3], 1) == "-"


def test_a_small_table(tmp_path, capsys):
    reference = Reference.of([Dance(f"r{i}", smooth_dance(50 + i, 8)) for i in range(12)])
    verdicts, values = compare(dances(), reference, {})
    assert set(verdicts["BAS"]) == set(DAMAGES)
    assert verdicts["freezing"]["held poses"] == "right"
    assert verdicts["jitter"]["noise"] == "right"
    assert verdicts["BAS"]["mirrored halves"] == "blind"  # that only beats move cannot be seen by it
    assert "undamaged" in values["BAS"]
    assert main(["--data", str(tmp_path)]) == 2
    assert "manifest.json is missing" in capsys.readouterr().err
