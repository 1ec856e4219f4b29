"""Clips and padding against the published loaders."""

import numpy as np
import pytest
import torch

from datasets.clips import (
    ClipsConfig,
    MusicClips,
    PoseClips,
    clip_starts,
    epoch_order,
    usable_frames,
    whole_music,
)
from datasets.sequences import Sequence
from tests.helpers import golden


class ThreeClips:
    """The golden loaders' three clips as prepared data; music columns are their eight channels."""

    root = "golden"

    def __init__(self):
        self.g = golden("loader_vectors.npz")

    def names(self, split):
        return ["0", "1", "2"]

    def implausible(self, name):
        return [(250, 251), (600, 2000)] if name == "0" else []

    def sequence(self, name):
        pose = self.g[f"clip{name}_pose"]
        joints = pose.reshape(len(pose), 24, 3)
        music = self.g[f"clip{name}_music75"].astype(np.float32)
        return Sequence(name, name, joints, music, np.zeros(self.g["music60_len"][int(name)], bool))


@pytest.mark.parametrize(
    ("hop", "prefix", "rows", "every"), [(40, "vq_move40", "", 1), (8, "root_move8", "_rows", 4)]
)
def test_pose_clips(hop, prefix, rows, every):
    data = ThreeClips()
    clips = PoseClips(data, "train", ClipsConfig(hop=hop))
    assert len(clips) == int(data.g[f"{prefix}_n"])
    poses = torch.stack([clips[i] for i in range(len(clips))])[::every]
    np.testing.assert_allclose(poses[:, 0], data.g[f"{prefix}_first_pose{rows}"], atol=1e-6)
    np.testing.assert_allclose(poses[:, -1], data.g[f"{prefix}_last_pose{rows}"], atol=1e-6)


def test_music_clips_as_published():
    data = ThreeClips()
    clips = MusicClips(data, "train", ClipsConfig(hop=8, starts="published"), 8)
    assert len(clips) == int(data.g["gpt_ext_n"]) == 42
    codes = torch.arange(42 * 30).view(42, 30)
    clips.set_codes(codes, codes + 1)
    poses = torch.stack([clips.poses[i] for i in range(42)])
    np.testing.assert_allclose(poses[:, 0], data.g["gpt_ext_first_pose"], atol=1e-6)
    np.testing.assert_allclose(poses[:, -1], data.g["gpt_ext_last_pose"], atol=1e-6)
    music = torch.stack([clips[i].music for i in range(42)])
    assert list(music.shape[1:]) == data.g["gpt_ext_music_shape"][0].tolist()
    np.testing.assert_array_equal(music[:, 0], data.g["gpt_ext_first_music"])
    np.testing.assert_array_equal(music[:, -1], data.g["gpt_ext_last_music"])
    assert torch.equal(clips[3].lower, codes[3] + 1)


def test_music_clips_mended():
    """All 212 starts, less those whose music would reach beyond the song."""
    data = ThreeClips()
    clips = MusicClips(data, "train", ClipsConfig(hop=8), 8)
    expected = sum(
        sum(
            s // 8 + 30 <= len(data.sequence(n).music)
            for s in range(0, usable_frames(data.sequence(n)) - 239, 8)
        )
        for n in data.names("train")
    )
    assert len(clips) == expected > 4 * 42


def test_whole_songs_are_padded_as_published():
    data = ThreeClips()
    sequences = [data.sequence(name) for name in data.names("test")]
    assert [whole_music(s.music).shape[1] for s in sequences] == data.g["test_gpt_ext_music_len"].tolist()


def test_too_short():
    data = ThreeClips()
    with pytest.raises(ValueError, match="has the 2000 frames of a clip"):
        PoseClips(data, "train", ClipsConfig(frames=2000))
    assert clip_starts(239, ClipsConfig()) == []
    assert clip_starts(240, ClipsConfig()) == [0]


def test_epoch_order():
    once = epoch_order(50, "each_once", 1, 1)
    assert sorted(once) == list(range(50))
    assert once == epoch_order(50, "each_once", 1, 1) != epoch_order(50, "each_once", 1, 2)
    drawn = epoch_order(50, "with_replacement", 1, 1)
    assert len(drawn) == 50 > len(set(drawn))


def test_clips_with_motion_that_no_body_makes_can_be_left_out():
    data = ThreeClips()
    everything = PoseClips(data, "train", ClipsConfig(hop=8))
    clean = PoseClips(data, "train", ClipsConfig(hop=8, implausible="leave_out"))
    kept = [place for place in everything.places if place.sequence or not 11 <= place.start <= 251]
    kept = [place for place in kept if place.sequence or place.start <= 360]
    assert clean.places == kept
    assert 0 < len(clean) < len(everything)
    with_music = MusicClips(data, "train", ClipsConfig(hop=8, implausible="leave_out"), 8)
    assert set(with_music.poses.places) <= set(kept)
