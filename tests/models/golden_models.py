"""The small models the golden files were made with, loaded through the path published checkpoints take."""

import torch

from models.actor_critic import ActorCritic, ValueConfig
from models.conv import ConvConfig
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig
from models.published.names import gpt_table, memory_table, to_ours
from models.quantizer import CodebookConfig
from models.vqvae import ChoreographicMemory, MemoryConfig
from tests.helpers import golden

GPT_SMALL = GPTConfig(width=96, heads=6, base_blocks=2, head_blocks=2, context=29, dropout=0.0)
GPT_MUSIC_SMALL = GPT_SMALL.model_copy(
    update={"music_transformer": MusicTransformerConfig(width=96, heads=6, blocks=1, dropout=0.0)}
)
NUM_CODES = (64, 48)


def tensors(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    return {
        k: torch.from_numpy(v)
        for k, v in golden(name).items()
        if k.startswith(prefix) and v.dtype.kind in "fiub"
    }


def published(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a golden network under their published names, without the prefix `module.`."""
    return {key.removeprefix("module."): value for key, value in tensors(name).items()}


def memory_small(name: str = "vq_small") -> ChoreographicMemory:
    config = MemoryConfig(
        codes_upper=64,
        codes_lower=64,
        codebook=CodebookConfig(dim=48, restarts="published"),
        conv=ConvConfig(width=32),
    )
    memory = ChoreographicMemory(config, velocity=name == "vqr_small")
    table = memory_table(config, name == "vqr_small")
    memory.load_state_dict(to_ours(table, published(f"{name}_weights.npz")))
    return memory


def upper_rotations_small() -> ChoreographicMemory:
    """The memory with rotation decoders whose upper half is recorded; the lower one's weights are new."""
    config = memory_small("vqr_small").config
    memory = ChoreographicMemory(config, velocity=True, rotations=True)
    table = memory_table(config, velocity=True, rotations=True)
    stored = published("pp_mix_small_weights.npz")
    recorded = {key: entry for key, entry in table.items() if key in stored}
    memory.load_state_dict(to_ours(recorded, stored), strict=False)
    return memory.eval()


def gpt_small() -> MotionGPT:
    gpt = MotionGPT(GPT_SMALL, NUM_CODES, 438)
    table = gpt_table(GPT_SMALL, NUM_CODES, 438)
    gpt.load_state_dict(to_ours(table, published("gpt_small_weights.npz")))
    return gpt.eval()


def actor_critic_small() -> ActorCritic:
    model = ActorCritic(MotionGPT(GPT_SMALL, NUM_CODES, 438), ValueConfig(blocks=1))
    table = gpt_table(GPT_SMALL, NUM_CODES, 438, value_blocks=1)
    model.load_state_dict(to_ours(table, published("gptac_small_weights.npz")))
    return model.eval()


def gpt_music_small() -> MotionGPT:
    gpt = MotionGPT(GPT_MUSIC_SMALL, NUM_CODES, 440, 8)
    table = gpt_table(GPT_MUSIC_SMALL, NUM_CODES, 440, None, 8)
    gpt.load_state_dict(to_ours(table, published("pp_gptmw_small_weights.npz")))
    return gpt.eval()


def actor_critic_music_small() -> ActorCritic:
    model = ActorCritic(MotionGPT(GPT_MUSIC_SMALL, NUM_CODES, 440, 8), ValueConfig(blocks=1))
    table = gpt_table(GPT_MUSIC_SMALL, NUM_CODES, 440, 1, 8)
    model.load_state_dict(to_ours(table, published("pp_gptmwac_small_weights.npz")))
    return model.eval()
