"""The benchmark of real songs: its measures at known values, and its table of a small GPT's dances."""

import numpy as np
import pytest

from tests.benchmarks.real_songs import (
    freezing_where,
    holds,
    loud_frames,
    main,
    other_songs,
    perplexity,
    table,
    variety,
)
from tests.models.inference.songs import RATE, sound
from tests.models.stages import tiny
from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance
from utils.metrics.beats import motion_beats
from utils.music.audio import write_wav


def test_holds_and_variety():
    codes = np.array([[1, 5], [1, 5], [1, 6], [1, 6], [2, 6], [1, 6]])
    assert holds(codes).tolist() == [2, 2, 1, 1]
    assert holds(codes[:, 0]).tolist() == [4, 1, 1]
    assert perplexity(np.array([3, 3, 7, 7])) == pytest.approx(2)
    assert perplexity(codes[:4]) == pytest.approx(2)
    row = variety(np.concatenate([np.zeros((150, 2), int), np.arange(300).reshape(150, 2)]))
    assert row["variety of pairs"] == pytest.approx((1 + 150) / 2)
    assert row["longest hold"] == 151  # the first code of the second half is still 0


def test_loud_frames_and_freezing_there():
    quiet, loud = 0.001 * np.ones(4 * 6000), 0.5 * np.ones(4 * 6000)
    frames = loud_frames(np.concatenate([quiet, loud]), 6000, 60, 560)
    assert not frames[:200].any()
    assert frames[245:475].all()
    assert not frames[515:].any()  # the dance is longer than the song
    moving = smooth_dance(0, 4)
    joints = np.concatenate([np.repeat(moving[:1], 240, 0), moving])
    assert freezing_where(joints, np.arange(480) < 200, 60) == 1
    assert freezing_where(joints, np.arange(480) >= 280, 60) == 0
    assert np.isnan(freezing_where(joints, np.zeros(480, bool), 60))


def test_a_dance_scores_lower_with_beats_of_others():
    joints = smooth_dance(1, 10)
    own = motion_beats(joints)
    dances = [
        Dance("a", joints, own),
        Dance("b", joints, own + 9),
        Dance("c", joints[:300], own[own < 290] + 9),
    ]
    assert other_songs(dances[0], dances) < 0.6
    assert np.isnan(other_songs(dances[0], dances[:1]))


def test_the_row_of_all():
    columns = ("BAS", "other songs", "longest hold", "variety of pairs")
    rows = {str(i): dict(zip(columns, (0.5, 0.2 + 0.1 * i, 3.0 + i, 10.0), strict=True)) for i in range(5)}
    found = table(rows)
    assert found["all"]["other songs"] == "0.400 (3/4, p 0.31)"
    assert (found["all"]["longest hold"], found["all"]["variety of pairs"]) == ("7", "10.0")


def test_the_command(trained, tmp_path, capsys):
    for number, interval in enumerate((0.5, 0.4)):
        write_wav(tmp_path / f"song{number}.wav", sound(4.0, interval, seed=number), RATE)
    given = [f"vqvae={tiny.checkpoint(trained, 'sep_vqvae_root')}", "device=cpu"]
    given += [f"checkpoint={tiny.checkpoint(trained, 'cc_motion_gpt')}", "generation.first_codes=[1,2]"]
    config = ["--config", "configs/sample/cc_motion_gpt.yaml"]
    assert main([str(tmp_path), *config, *given]) == 0
    text = capsys.readouterr().out
    for wanted in ("| song0 ", "| song1 ", "| all ", "freezing, loud", "longest hold"):
        assert wanted in text
    assert main([str(tmp_path), *config, *given, "dance.max_hold=0"]) == 2
    assert "dance.max_hold" in capsys.readouterr().err
    assert main(["--config", "configs/sample/sep_vqvae.yaml", str(tmp_path)]) == 2
    assert "has no motion GPT" in capsys.readouterr().err
