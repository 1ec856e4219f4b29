"""normalise_pose: networks work on motion of mean 0 and variance 1; poses in and out stay in metres."""

import pytest
import torch

from models.published.conversion import to_published
from models.streaming import PoseStream
from models.vqvae import ChoreographicMemory, MemoryConfig
from utils.motion import pose_to_joints

SIZES = {"codes_upper": 16, "codes_lower": 12, "conv": {"width": 8}, "codebook": {"dim": 6}}


def memory_of(halves: str = "split", normalise: bool = True) -> ChoreographicMemory:
    torch.manual_seed(0)
    architecture = {"memory": {**SIZES, "halves": halves, "normalise_pose": normalise}, "velocity": True}
    memory = ChoreographicMemory.from_architecture(architecture).eval()
    for half in memory.halves.values():
        half.quantizer.codebook.normal_(std=0.1)
    return memory


def poses(number: int = 400) -> torch.Tensor:
    torch.manual_seed(1)
    return 0.4 + 0.3 * torch.rand(72) * torch.randn(number, 72)


@pytest.mark.parametrize("halves", ["split", "whole"])
def test_networks_see_mean_0_and_variance_1(halves):
    memory, motion = memory_of(halves), poses()
    memory.set_pose_statistics(motion)
    seen = {}
    for name, half in memory.halves.items():
        half.encoder.stages[0][0].register_forward_pre_hook(lambda _, x, name=name: seen.update({name: x[0]}))
    memory(motion[None])
    for name, x in seen.items():
        channels = x[0] if name == "upper" else x[0, 3:]  # the root slot is zero
        assert float(channels.mean(1).abs().max()) < 1e-5
        variance = float(x.square().mean())
        assert variance == pytest.approx(1, abs=1e-4)


def test_output_is_in_metres():
    memory, motion = memory_of(), poses()
    memory.set_pose_statistics(motion)
    memory.velocity.set_statistics(0.01 * torch.randn(100, 3) + torch.tensor([0.0, 0.02, 0.0]))
    for network in (memory.upper.decoder, memory.lower.decoder, memory.velocity):
        network.out.weight.data.zero_()
        network.out.bias.data.zero_()
    decoded = memory.decode(memory.encode(motion[None]))[0].detach()
    mean = motion.mean(0)
    torch.testing.assert_close(decoded[:, 3:], mean[3:].expand_as(decoded[:, 3:]), rtol=0, atol=1e-6)
    assert float(decoded[0, 1]) == pytest.approx(0.02, abs=0.005)


@torch.no_grad()
def test_same_as_an_unnormalised_memory_on_normalised_poses():
    plain, memory, motion = memory_of(normalise=False), memory_of(), poses()
    memory.load_state_dict(plain.state_dict(), strict=False)
    memory.set_pose_statistics(motion)
    motion[:, :3] = 0
    standard, in_metres = motion.clone(), torch.zeros_like(motion)
    halves = ((memory.upper, memory._upper), (memory.lower, memory._lower))
    for half, channels in halves:
        mean, std = half.encoder.motion_mean[:, 0], half.encoder.motion_std
        standard[:, channels] = (motion[:, channels] - mean) / std
    expected, found = plain(standard[None]).pose[0], memory(motion[None]).pose[0]
    for half, channels in halves:
        mean, std = half.decoder.motion_mean[:, 0], half.decoder.motion_std
        in_metres[:, channels] = expected[:, channels] * std + mean
    assert float(found.std()) > 0.01
    torch.testing.assert_close(found, in_metres, rtol=0, atol=1e-5)


@torch.no_grad()
def test_streamed_equals_whole():
    memory = memory_of().eval()
    memory.set_pose_statistics(poses())
    memory.velocity.set_statistics(0.01 * torch.randn(100, 3))
    codes = memory.encode(poses(160)[None])
    whole = pose_to_joints(memory.decode(codes))[0]
    stream = PoseStream(memory)
    parts = [
        stream.push(type(codes)(*(h[:, i : i + 3] for h in codes)), last=i >= 18) for i in range(0, 20, 3)
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[0], whole, rtol=0, atol=1e-5)


def test_statistics_are_part_of_the_weights_and_absent_otherwise():
    memory = memory_of()
    memory.set_pose_statistics(poses())
    again = memory_of()
    again.load_state_dict(memory.state_dict())
    motion = poses()[None, :80]
    assert torch.equal(again(motion).pose, memory(motion).pose)
    assert not any("motion" in key for key in memory_of(normalise=False).state_dict())


def test_published_form_has_no_place_for_it():
    memory = memory_of()
    content = {
        "stage": "sep_vqvae_root",
        "architecture": memory.architecture(),
        "model": memory.state_dict(),
        "config": {},
        "epoch": 1,
    }
    with pytest.raises(ValueError, match=r"here cannot be written .*\(normalise_pose: true\)"):
        to_published(content, "here")


def test_config_is_off_by_default():
    assert not MemoryConfig().normalise_pose
