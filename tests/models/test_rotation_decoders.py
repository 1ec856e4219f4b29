"""Rotation decoders as a part of the memory: halves, whole dances, checkpoints with and without them."""

import numpy as np
import pytest
import torch

import models.vqvae
from models.conv import ConvConfig
from models.quantizer import CodebookConfig
from models.stages.base import fingerprint_of_memory
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

CONV = ConvConfig(width=6, depth=2)


def memory_of(rotations=True, velocity=True, **more):
    torch.manual_seed(0)
    sizes = {"codes_upper": 7, "codes_lower": 5, "codebook": CodebookConfig(dim=4), "conv": CONV}
    memory = ChoreographicMemory(MemoryConfig(**{**sizes, **more}), velocity, rotations).eval()
    for half in memory.halves.values():
        half.quantizer.codebook.normal_()
    return memory


def codes_of(length):
    generator = torch.Generator().manual_seed(1)
    return Codes(*(torch.randint(k, (length,), generator=generator) for k in (7, 5)))


@pytest.mark.parametrize("halves", ["split", "whole"])
def test_splitting_rotations_loses_nothing(halves):
    memory = memory_of(halves=halves)
    rotations = torch.randn(2, 3, 24, 3, 3)
    parts = memory.split_rotations(rotations)
    assert parts.keys() == memory.rotations.keys() == memory.halves.keys()
    assert torch.equal(memory.join_rotations(parts), rotations)
    if halves == "split":
        upper = rotations[:, :, list(SMPL_24.upper)]
        assert torch.equal(parts["upper"].unflatten(-1, (15, 3, 3)), upper)


@pytest.mark.parametrize("halves", ["split", "whole"])
@torch.no_grad()
def test_each_half_decodes_its_own_codes(halves):
    memory = memory_of(halves=halves)
    codes = Codes(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))
    before = memory.decode_rotations(codes)
    assert before.shape == (1, 32, 24, 3, 3)
    changed = memory.decode_rotations(codes._replace(lower=codes.lower + 1)) != before
    moved = [joint for joint in range(24) if changed[:, :, joint].any()]
    assert moved == (list(SMPL_24.lower) if halves == "split" else list(range(24)))


@pytest.mark.parametrize("length", [1, 50])
def test_a_motion_in_pieces_is_the_motion_at_once(length, monkeypatch):
    memory, codes = memory_of(), codes_of(length)
    whole = memory.decode_motion(codes)
    assert whole.joints.shape == (8 * length, 24, 3)
    monkeypatch.setattr(models.vqvae, "_DECODED", {"cpu": 7})
    pieces = memory.decode_motion(codes)
    for ours, theirs in zip(pieces, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_joints_follow_from_rotations_and_velocity():
    memory, codes = memory_of(), codes_of(6)
    joints, rotations = memory.decode_motion(codes)
    identity = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity, rtol=0, atol=1e-5)
    rest = torch.from_numpy(rest_joints()).float()
    for parent, child in SMPL_24.bones:
        length = (joints[:, child] - joints[:, parent]).norm(dim=-1)
        expected = (rest[child] - rest[parent]).norm().expand_as(length)
        torch.testing.assert_close(length, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(joints[:, 0], memory.decode_dance(codes)[:, 0])
    root = torch.randn(48, 3)
    given = memory.decode_motion(codes, root)
    torch.testing.assert_close(given.joints[:, 0], root)
    torch.testing.assert_close(given.rotations, rotations)


def test_without_velocity_the_root_stays():
    joints, _ = memory_of(velocity=False).decode_motion(codes_of(3))
    assert not joints[:, 0].any()


def test_a_memory_without_rotations_gives_its_joints():
    memory, codes = memory_of(rotations=False), codes_of(6)
    joints, rotations = memory.decode_motion(codes)
    assert rotations is None
    assert torch.equal(joints, memory.decode_dance(codes))


def test_rotation_decoders_change_no_code_and_no_fingerprint():
    plain = memory_of(rotations=False)
    more = ChoreographicMemory(plain.config, velocity=True, rotations=True).eval()
    missing, extra = more.load_state_dict(plain.state_dict(), strict=False)
    assert not extra
    assert {key.split(".")[0] for key in missing} == {"rotations"}
    assert fingerprint_of_memory(more) == fingerprint_of_memory(plain)
    dance = np.random.default_rng(0).normal(size=(40, 24, 3))
    for ours, theirs in zip(more.encode_dance(dance), plain.encode_dance(dance), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(more.decode_dance(codes_of(6)), plain.decode_dance(codes_of(6)))


def test_architecture_says_whether_there_are_rotations():
    for memory in (memory_of(), memory_of(rotations=False)):
        again = ChoreographicMemory.from_architecture(memory.architecture())
        assert again.state_dict().keys() == memory.state_dict().keys()
    former = memory_of(rotations=False).architecture()
    del former["rotations"]
    assert ChoreographicMemory.from_architecture(former).rotations is None
