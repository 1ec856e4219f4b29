"""Stage sep_vqvae_root_mix: what it trains, on which clips, by which loss, and from which checkpoints."""

import json

import numpy as np
import pytest
import torch

from datasets.sequences import PreparedData
from models.checkpoints import load_memory
from models.stages.memory_losses import RotationLossConfig, rotation_loss
from tests.models.stages import synthetic


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Memory, velocity branch and rotation decoders, trained on random motion."""
    root = tmp_path_factory.mktemp("rotations")
    synthetic.make_data(root / "data")
    for name in ("sep_vqvae", "sep_vqvae_root", "sep_vqvae_root_mix"):
        trainer, _ = synthetic.make_trainer(name, root / "data", root / "runs", epochs=2)
        trainer.run()
    return root


def memory_of(runs, name):
    return load_memory(runs / "runs" / name / "ckpt" / "last.pt", "", velocity=True)


def test_only_rotation_decoders_are_trained(runs):
    before, after = memory_of(runs, "sep_vqvae_root"), memory_of(runs, "sep_vqvae_root_mix")
    state = after.state_dict()
    for key, value in before.state_dict().items():
        assert torch.equal(state[key], value), key
    stage = synthetic.make_stage("sep_vqvae_root_mix", runs / "data", runs / "runs")
    new = stage.memory.state_dict()
    for key, value in state.items():
        assert torch.equal(new[key], value) != key.startswith("rotations."), key


def test_a_clip_has_the_rotations_of_its_own_frames(runs):
    data = PreparedData(runs / "data")
    stage = synthetic.make_stage("sep_vqvae_root_mix", runs / "data", runs / "runs")
    clips = stage.clips
    assert len(clips) == 24
    for index in (0, 7, 23):
        place, clip = clips.poses.places[index], clips[index]
        rotations = data.rotations(clips.name(index))[place.start : place.start + 240]
        np.testing.assert_array_equal(clip.rotations, rotations)
        codes = stage.memory.encode(clips.poses[index][None])
        assert torch.equal(clip.upper, codes.upper[0])
        assert torch.equal(clip.lower, codes.lower[0])


def test_the_loss_is_the_stated_formula():
    """Half the sum over the halves of |R̂-R| + a|ΔR̂-ΔR| + b|Δ²R̂-Δ²R|, spelled out frame by frame."""
    rng = np.random.default_rng(0)
    shapes = {"upper": (2, 6, 18), "lower": (2, 6, 9)}
    predicted, target = ({half: rng.normal(size=size) for half, size in shapes.items()} for _ in range(2))
    expected = 0.0
    for half, p in predicted.items():
        e = p - target[half]
        first = [abs(e[:, t + 1] - e[:, t]) for t in range(5)]
        second = [abs(e[:, t + 2] - 2 * e[:, t + 1] + e[:, t]) for t in range(4)]
        expected += (np.mean(abs(e)) + 0.5 * np.mean(first) + 0.25 * np.mean(second)) / 2
    tensors = ({half: torch.from_numpy(x) for half, x in side.items()} for side in (predicted, target))
    loss, logs = rotation_loss(*tensors, RotationLossConfig(velocity=0.5, acceleration=0.25))
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert logs.keys() == {"loss"} | {
        f"{part}_{half}" for part in ("reconstruction", "velocity", "acceleration") for half in predicted
    }


def test_decoders_learn_the_rotations_of_a_clip(runs):
    stage = synthetic.make_stage("sep_vqvae_root_mix", runs / "data", runs / "runs")
    clip = stage.clips[0]
    smooth = torch.eye(3).expand(clip.rotations.shape) + 0.1 * torch.linspace(0, 1, 240).view(-1, 1, 1, 1)
    batch = clip._replace(upper=clip.upper[None], lower=clip.lower[None], rotations=smooth[None])
    optimizer = torch.optim.Adam(stage.trainable.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss, _ = stage.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * losses[0]


def test_normalised_decoders_start_at_the_mean_rotation(runs, tmp_path):
    own = {"model": {**synthetic.SIZES["sep_vqvae"]["model"], "normalise_pose": True}}
    for name in ("sep_vqvae", "sep_vqvae_root"):
        more = own if name == "sep_vqvae" else None
        trainer, _ = synthetic.make_trainer(name, runs / "data", tmp_path, epochs=1, own=more)
        trainer.run()
    stage = synthetic.make_stage("sep_vqvae_root_mix", runs / "data", tmp_path)
    data = PreparedData(runs / "data")
    mean = np.mean([data.rotations(name) for name in data.names("train")], axis=(0, 1))
    halves = stage.memory.split_rotations(torch.from_numpy(mean)[None])
    for half, expected in halves.items():
        torch.testing.assert_close(stage.memory.rotations[half].motion_mean[:, 0], expected[0])


def test_it_can_start_from_a_memory_with_rotations(runs, tmp_path):
    mix = runs / "runs" / "sep_vqvae_root_mix" / "ckpt" / "last.pt"
    anew = synthetic.make_stage("sep_vqvae_root_mix", runs / "data", runs / "runs")
    config = anew.config.model_copy(update={"vqvae": str(mix), "output": str(tmp_path)})
    stage = type(anew)(config, anew.device)
    assert stage.built_on == anew.built_on


def test_data_without_rotations_are_refused_in_one_line(runs, tmp_path):
    data = PreparedData(synthetic.make_data(tmp_path / "data"))
    del data.manifest["sequences"]["dance3"]["rotations"]
    (data.root / "manifest.json").write_text(json.dumps(data.manifest))
    trainer, _ = synthetic.make_trainer("sep_vqvae_root_mix", data.root, tmp_path, before=runs / "runs")
    with pytest.raises(
        ValueError, match=r"no bone rotations of dance3; add them by: python prepare_"
    ) as error:
        trainer.run()
    assert "\n" not in str(error.value)
