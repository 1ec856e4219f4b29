"""`model.clamp_music`: features beyond those of the training songs are taken for the outermost of them."""

import numpy as np
import pytest
import torch

import main
from datasets.sequences import PreparedData
from models.checkpoints import load_policy
from models.gpt import GPTConfig, MotionGPT
from models.stages.motion_gpt import music_range
from models.vqvae import Codes
from tests.models.stages import tiny
from utils.training.checkpoints import load_checkpoint

SIZES = {"width": 8, "heads": 2, "base_blocks": 1, "head_blocks": 1, "context": 4}


def logits(gpt, music):
    zeros = torch.zeros(len(music), 4, dtype=torch.long)
    return gpt(music, Codes(zeros, zeros)).upper


@pytest.mark.parametrize("normalised", [True, False])
@torch.no_grad()
def test_only_features_beyond_the_range_are_moved_and_to_its_end(normalised):
    torch.manual_seed(0)
    gpt = MotionGPT(GPTConfig(**SIZES, normalise_music=normalised, clamp_music=True), (6, 5), 3).eval()
    plain = MotionGPT(GPTConfig(**SIZES, normalise_music=normalised), (6, 5), 3).eval()
    plain.load_state_dict(gpt.state_dict(), strict=False)
    music = torch.randn(2, 4, 3)
    assert torch.equal(logits(gpt, 1e6 * music), logits(plain, 1e6 * music))  # no range is set yet
    gpt.set_music_range(torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 2.0]))
    inside = torch.stack([music[..., 0].tanh(), music[..., 1].sigmoid() / 2, torch.full((2, 4), 2.0)], -1)
    assert torch.equal(logits(gpt, inside), logits(plain, inside))
    beyond, ends = inside.clone(), inside.clone()
    beyond[:, 1:] = torch.tensor([7.0, -3.0, 5.0])
    ends[:, 1:] = torch.tensor([1.0, 0.0, 2.0])
    assert torch.equal(logits(gpt, beyond), logits(plain, ends))
    assert not torch.equal(logits(plain, beyond), logits(plain, ends))


def test_the_range_is_that_of_the_training_songs(small_data):
    data = PreparedData(small_data)
    low, high = music_range(data)
    songs = {data.sequence(name).song for name in data.names("train")}
    for feature in (0, 25, 53, 57):
        values = np.concatenate([data.song(song).features[:, feature] for song in songs])
        assert (float(low[feature]), float(high[feature])) == (values.min(), values.max())


def test_training_is_the_same_and_the_checkpoint_holds_the_range(trained, small_data, tmp_path, capsys):
    memory = tiny.checkpoint(tmp_path, "sep_vqvae_root")
    memory.parent.mkdir(parents=True)
    memory.symlink_to(tiny.checkpoint(trained, "sep_vqvae_root"))
    found = {}
    for clamps in ("true", "false"):
        more = (f"model.clamp_music={clamps}", f"name={clamps}/sample/cc_motion_gpt", "training.epochs=1")
        tiny.run("cc_motion_gpt", small_data, tmp_path, "train", *more)
        found[clamps] = tmp_path / clamps / "sample" / "cc_motion_gpt" / "ckpt" / "last.pt"
    plain, clamped = (load_checkpoint(found[name], "")["model"] for name in ("false", "true"))
    assert {*clamped} - {*plain} == {"base.music_low", "base.music_high"}
    assert all(torch.equal(value, clamped[key]) for key, value in plain.items())
    base, (low, high) = load_policy(found["true"], "").gpt.base, music_range(PreparedData(small_data))
    assert torch.equal(base.music_low, low)
    assert torch.equal(base.music_high, high)
    more = ("model.clamp_music=false", "name=true/sample/cc_motion_gpt")
    assert main.main(tiny.arguments("cc_motion_gpt", small_data, tmp_path, "eval", *more)) == 2
    assert "was trained with model.clamp_music true, the config says false" in capsys.readouterr().err


def test_a_music_transformer_is_not_clamped():
    with pytest.raises(ValueError, match="clamp_music goes with music_transformer: null only"):
        GPTConfig(**SIZES, clamp_music=True, music_transformer={"width": 8, "heads": 2})
