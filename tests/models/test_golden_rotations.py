"""Rotation decoders against the published system's numbers, in files of the published form."""

import numpy as np
import pytest
import torch

from models.checkpoints import MEMORY_STAGES, load_memory, read_checkpoint
from models.published.conversion import from_published, to_published
from models.published.files import read_published
from models.stages.memory_losses import RotationLossConfig, rotation_loss
from models.vqvae import ChoreographicMemory
from tests.golden.select_arrays import OUTPUTS, UPPER
from tests.helpers import SHARED, golden
from tests.models.golden_models import upper_rotations_small
from tests.models.published.files import write
from tests.packing import sample
from utils.motion import difference

SIDES = {"upper": "up", "lower": "down"}


def close(ours, theirs):
    """Equal to 1e-5 of the size of the numbers."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@torch.no_grad()
def test_codes_and_matrices_of_the_upper_half():
    memory, g = upper_rotations_small(), golden("pp_mix_small_vectors.npz")
    poses = torch.from_numpy(golden("vq_small_eval.npz")["x"][: len(g["codes_up"])])
    codes = memory.encode(poses)
    np.testing.assert_array_equal(codes.upper, g["codes_up"])
    matrices = memory.decode_rotations(codes)[:, :, list(UPPER)]
    close(sample(matrices.numpy(), OUTPUTS), g["decode_upper_sample"])


@pytest.fixture(scope="module")
def recording():
    """All arrays of the recording, and its weights under their published names."""
    folder = SHARED / "golden"
    if not (folder / "pp_mix_small_weights.npz").is_file():
        pytest.skip("the full recording of the rotation decoders (pp_mix_small) is not here")
    with np.load(folder / "pp_mix_small_weights.npz") as file:
        weights = {key: torch.from_numpy(value) for key, value in file.items()}
    with np.load(folder / "pp_mix_small_vectors.npz") as file:
        return weights, dict(file)


@pytest.fixture(params=[True, False], ids=["zip", "old"])
def file(request, recording, tmp_path):
    return write(tmp_path / "mix.pt", recording[0], epoch=500, zipped=request.param)


def halves_of(g, memory, name):
    """Matrices (B, T, 9 n) of each half, of an array (B, T, 219)."""
    matrices = torch.from_numpy(g[name][..., 3:]).unflatten(-1, (24, 3, 3))
    return memory.split_rotations(matrices)


def test_every_array_of_the_recording_through_a_file(recording, file):
    weights, g = recording
    content = read_checkpoint(file, "", MEMORY_STAGES)
    assert (content["stage"], content["epoch"]) == ("sep_vqvae_root_mix", 500)
    memory = load_memory(file, "", velocity=True)
    codes = memory.encode(torch.from_numpy(g["x"]))
    np.testing.assert_array_equal(codes.upper, g["codes_up"])
    np.testing.assert_array_equal(codes.lower, g["codes_down"])
    memory.rotations.requires_grad_(True)
    rotations = memory.decode_rotations(codes)
    output = torch.cat([memory.decode_velocity(codes.lower), rotations.flatten(-3)], dim=-1)
    for name in ("out", "decode"):
        close(output.detach(), g[name])

    predicted = memory.rotations(memory.latents(codes))
    targets = halves_of(g, memory, "x_rot")
    loss, logs = rotation_loss(predicted, targets, RotationLossConfig())
    loss.backward()
    close(loss.detach(), g["loss"])
    close(loss.detach(), g["train_loss"])
    for half, side in SIDES.items():
        metric = {key.removeprefix(f"metric_{side}_"): g[key] for key in g if f"_{side}_" in key}
        for key in ("recons_loss", "recons_loss_l1", "l1_loss"):
            close(logs[f"reconstruction_{half}"].detach(), metric.pop(key))
        for key in ("velocity", "acceleration"):
            close(logs[f"{key}_{half}"].detach(), metric.pop(f"{key}_loss"))
        jerky = difference(difference(predicted[half].detach())).square().mean()
        close(jerky, metric.pop("regularization"))
        assert metric.pop("commit_loss") == 0
        assert not metric

    names = g["gradnorm_names"].tolist()
    given = {name for name, value in memory.named_parameters() if value.grad is not None}
    assert len(given) == len(names) == 92
    exported = to_published(content, "")
    assert list(exported["model"]) == list(weights)
    gradients = {key: value.grad for key, value in memory.named_parameters() if key in given}
    content["model"] = {key: gradients.get(key, value) for key, value in memory.state_dict().items()}
    published = to_published(content, "")["model"]
    close([float(published[name].norm()) for name in names], g["gradnorm"])


def test_there_and_back_is_bit_exact(recording, file):
    weights, _ = recording
    content = from_published(read_published(file))
    memory = ChoreographicMemory.from_architecture(content["architecture"])
    memory.load_state_dict(content["model"])
    again = to_published({**content, "model": memory.state_dict()}, "")["model"]
    assert list(again) == list(weights)
    assert all(torch.equal(again[key], value) for key, value in weights.items())
