"""An untrained memory and GPT, songs, and the command --dance."""

import numpy as np
import pytest
import torch

import main
from models.actor_critic import ActorCritic, ValueConfig
from models.conv import ConvConfig
from models.gpt import GPTConfig, MotionGPT
from models.quantizer import CodebookConfig
from models.vqvae import ChoreographicMemory, MemoryConfig
from tests.models.inference.songs import CONFIG, RATE, encode, sound
from tests.utils.metrics.motions import smooth_dance
from utils.motion import joints_to_pose, without_root
from utils.music import audio
from utils.training.checkpoints import save_checkpoint


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(3)
    conv = ConvConfig(width=8, depth=1)
    sizes = MemoryConfig(codes_upper=24, codes_lower=16, codebook=CodebookConfig(dim=8), conv=conv)
    memory = ChoreographicMemory(sizes, velocity=True)
    dances = torch.from_numpy(np.stack([smooth_dance(seed, 3)[:176] for seed in range(6)])).float()
    with torch.no_grad():
        memory.train()(without_root(joints_to_pose(dances)))  # codes are taken from the first batch
        memory.eval()
        gpt = MotionGPT(GPTConfig(width=12, heads=12, base_blocks=1, head_blocks=1), memory.num_codes, 438)
        for layer in (gpt.head.to_upper, gpt.head.to_lower, gpt.base.embed_upper, gpt.base.embed_lower):
            layer.weight.normal_(0, 1.0)
        gpt.base.embed_music.weight[:, 0] = 0  # the loudness, around -500, drowns everything
    return memory, gpt.eval()


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    """Checkpoints of both, and of an actor-critic with a best epoch."""
    folder, (memory, gpt) = tmp_path_factory.mktemp("weights"), networks
    critic = ActorCritic(gpt, ValueConfig(blocks=1))
    heard = {"music": "standard"}
    kept = {key: value.clone() for key, value in critic.state_dict().items()}
    lost = {key: -value for key, value in kept.items()}
    contents = {
        "memory": {"stage": "sep_vqvae_root", "architecture": memory.architecture()},
        "gpt": {"stage": "motion_gpt", "architecture": gpt.architecture() | heard},
        "critic": {"stage": "actor_critic", "architecture": critic.architecture() | heard},
    }
    models = {"memory": memory.state_dict(), "gpt": gpt.state_dict(), "critic": lost}
    contents["critic"]["selection"] = {"weights": kept, "epoch": 2}
    for name, content in contents.items():
        save_checkpoint(content | {"model": models[name], "config": {}, "epoch": 3}, folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in contents}


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    audio.write_wav(folder / "one.wav", sound(3.0), RATE)
    encode(folder / "two.mp3", sound(4.0, 0.4, seed=1), "libmp3lame")
    encode(folder / "three.m4a", sound(2.5, 0.6, seed=2), "aac")
    return folder


@pytest.fixture
def dance(files, tmp_path):
    """Runs the command; the files go to `out` of the test's folder."""

    def run(*more, config=CONFIG, weights=("memory", "gpt"), out="out"):
        names = dict(zip(("vqvae", "checkpoint"), weights, strict=True))
        given = [f"{key}={files[name]}" for key, name in names.items()]
        given += [f"output={tmp_path}", "data.root=nowhere", "device=cpu"]
        arguments = ["--config", config, "--dance", *given, "--out", str(tmp_path / out), *map(str, more)]
        return main.main(arguments)

    return run
