"""encode_dance and decode_dance: the only functions that encode and decode whole dances."""

import numpy as np
import pytest
import torch

from datasets.clips import usable_frames
from models import vqvae
from models.vqvae import ChoreographicMemory, Codes
from tests.datasets.test_clips import ThreeClips
from tests.models.golden_models import memory_small
from utils.motion import joints_to_pose, pose_to_joints


def random_joints(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(frames, 24, 3)).astype(np.float32)


def random_codes(memory: ChoreographicMemory, length: int) -> Codes:
    generator = torch.Generator().manual_seed(length)
    return Codes(*(torch.randint(k, (length,), generator=generator) for k in memory.num_codes))


def test_dances_are_padded_as_published(monkeypatch):
    data, memory, seen = ThreeClips(), memory_small().eval(), []
    encode = memory.encode
    monkeypatch.setattr(memory, "encode", lambda pose: seen.append(pose) or encode(pose))
    sequences = [data.sequence(name) for name in data.names("test")]
    codes = [memory.encode_dance(s.joints[: usable_frames(s)]) for s in sequences]
    lengths = data.g["test_vq_dance_len"].tolist()
    assert [pose.shape[1] for pose in seen] == lengths
    assert [len(half) for of_one in codes for half in of_one] == [n // 8 for n in lengths for _ in range(2)]
    pose, joints = seen[0][0], torch.from_numpy(sequences[0].joints)
    assert torch.equal(pose[:600], joints_to_pose(joints)[:600])
    assert torch.equal(pose[-1], joints_to_pose(joints)[usable_frames(sequences[0]) - 1])


@pytest.mark.parametrize("frames", [1, 7, 8, 72, 77])
@torch.no_grad()
def test_encode_dance_is_encode_of_the_padded_pose(frames):
    memory, joints = memory_small().eval(), random_joints(frames)
    padded = np.concatenate([joints, joints[-1:].repeat(8 - frames % 8, 0)])
    expected = memory.encode(joints_to_pose(torch.from_numpy(padded)).unsqueeze(0))
    codes = memory.encode_dance(joints)
    assert torch.equal(codes.upper, expected.upper[0])
    assert torch.equal(codes.lower, expected.lower[0])
    assert len(codes.upper) == frames // 8 + 1


@pytest.mark.parametrize("shape", [(0, 24, 3), (9, 23, 3), (9, 72)])
def test_what_is_no_dance(shape):
    with pytest.raises(ValueError, match=r"joints of a dance must be \(T, 24, 3\)"):
        memory_small().eval().encode_dance(np.zeros(shape))


@pytest.mark.parametrize("length", [1, 30, 45])
@torch.no_grad()
def test_decode_dance_in_pieces_is_decode_at_once(length, monkeypatch):
    memory = memory_small("vqr_small").eval()
    codes = random_codes(memory, length)
    pose = memory.decode(Codes(*(half.unsqueeze(0) for half in codes)))[0]
    expected = pose_to_joints(pose.double()).float()
    assert torch.equal(memory.decode_dance(codes), expected)
    monkeypatch.setitem(vqvae._DECODED, "cpu", 7)
    assert (memory.decode_dance(codes) - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_the_root_is_integrated_given_or_stays():
    memory, without = memory_small("vqr_small").eval(), memory_small().eval()
    codes = random_codes(memory, 20)
    free, root = memory.decode_dance(codes), torch.randn(160, 3)
    given = memory.decode_dance(codes, root)
    assert torch.equal(given[:, 0], root)
    torch.testing.assert_close(given - given[:, :1], free - free[:, :1], rtol=0, atol=1e-5)
    velocity = memory.decode_velocity(codes.lower.unsqueeze(0))[0]
    torch.testing.assert_close(free[1:, 0], velocity.cumsum(0)[:-1], rtol=1e-4, atol=1e-5)
    assert not without.decode_dance(codes)[:, 0].any()
