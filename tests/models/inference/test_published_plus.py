"""Bailando++ from published files to SMPL: --dance with all three networks read as downloaded."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import main
from models.actor_critic import ActorCritic, ValueConfig
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig
from models.published.conversion import to_published
from models.vqvae import ChoreographicMemory
from tests.models.published.files import write
from utils.metrics.reading import read_dance

CONFIG = "configs/actor_critic_music_trans_400_mix_rotmat.yaml"


@pytest.fixture
def published(networks, tmp_path):
    """Files of a memory with rotation decoders and of a GPT with music transformer and value."""
    plain, _ = networks
    torch.manual_seed(5)
    memory = ChoreographicMemory(plain.config, velocity=True, rotations=True)
    memory.load_state_dict(plain.state_dict(), strict=False)
    transformer = MusicTransformerConfig(width=12, heads=12, blocks=3)
    sizes = GPTConfig(width=12, heads=12, base_blocks=1, head_blocks=1, music_transformer=transformer)
    critic = ActorCritic(MotionGPT(sizes, memory.num_codes, 440, 8), ValueConfig(blocks=1))
    with torch.no_grad():
        for layer in (critic.gpt.head.to_upper, critic.gpt.head.to_lower, critic.gpt.base.embed_music):
            layer.weight.normal_(0, 1.0)
        critic.gpt.music.embed.weight[:, 0] = 0  # the loudness, around -500, drowns everything
    files = {}
    for name, stage, model, more in (
        ("memory", "sep_vqvae_root_mix", memory, {}),
        ("critic", "actor_critic", critic, {"music": "frames"}),
    ):
        content = {"stage": stage, "architecture": model.architecture() | more, "model": model.state_dict()}
        made = to_published({**content, "config": {}, "epoch": 10}, name)
        made["config"].pop("music_features", None)  # as in the authors' files
        files[name] = write(tmp_path / f"{name}.pt", made["model"], made["config"])
    return files


def test_a_song_becomes_smpl(published, songs, tmp_path):
    files = [f"vqvae={published['memory']}", f"gpt={published['critic']}", "checkpoint=null"]
    more = ["dance.formats=[smpl]", f"output={tmp_path}", "device=cpu", "dance.level=false"]
    more.append("generation.first_codes=[1,2]")
    out = tmp_path / "out"
    arguments = ["--config", CONFIG, "--dance", str(songs / "two.mp3"), *files, *more, "--out", str(out)]
    assert main.main(arguments) == 0
    made, smpl = np.load(out / "two.npz"), np.load(out / "two_smpl.npz")
    facts = json.loads(str(made["provenance"]))
    assert (facts["stage"], facts["music_features"]) == ("actor_critic", "frames")
    assert len({tuple(pair) for pair in made["codes"].tolist()}) > 3
    turns = Rotation.from_rotvec(smpl["smpl_poses"].reshape(-1, 3)).as_matrix()
    np.testing.assert_allclose(turns.reshape(-1, 24, 3, 3), made["smpl_rotations"], atol=1e-5)
    np.testing.assert_allclose(read_dance(out / "two_smpl.npz").joints, made["joints"], atol=1e-4)
