"""Names of the tensors in published checkpoints: one table per network, read in both directions.

A table lists the published keys (without `module.`), in the order of the published files, each with the key
of our state dict that holds the same numbers. Shapes are those of our modules.

Source: the published system's checkpoint keys (names are facts, the code is ours). Only names differ, except
for three things: query, key and value are one linear map here; the positions of the three streams are an axis
of their own here; and each published GPT block holds its mask. Published files lack the moving averages
of the codebooks.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from models.actor_critic import ActorCritic, ValueConfig
from models.gpt import GPTConfig, MotionGPT, band_mask
from models.vqvae import ChoreographicMemory, MemoryConfig

HALVES = {"vqvae_up": "upper", "vqvae_down": "lower"}
PARTS = ("music_trans", "gpt_base", "gpt_head", "critic_net")
MASK = "attn.mask"
_MOVING_AVERAGES = (".ema_sum", ".ema_count", ".initialised", ".restarted")
_NOT_PUBLISHED = "this is not the published architecture"


class Entry(NamedTuple):
    """A tensor of a published file.

    Attributes:
        shape: in the published file.
        ours: the key of our state dict that holds it; '' for a mask, which we do not store.
        part: 0, 1 or 2 if it is the first, second or last third of our tensor; 0 otherwise.
        band: of a mask: the largest distance that it lets through to either side; None for a causal one.
    """

    shape: tuple[int, ...]
    ours: str
    part: int = 0
    band: int | None = None

    @property
    def mask(self) -> Tensor:
        """The published mask (1, 1, n, n) of an entry without a key of ours: 1 where row may attend."""
        size = self.shape[-1]
        found = torch.ones(size, size).tril() if self.band is None else band_mask(size, self.band).float()
        return found.view(1, 1, size, size)


Table = dict[str, Entry]  # published key, without `module.`; in the file's order


def memory_table(config: MemoryConfig, velocity: bool, rotations: bool = False) -> Table:
    """Table of a choreographic memory.

    That is SepVQVAE; with its velocity branch SepVQVAER; with rotation decoders too SepVQVAERmix.

    Raises:
        ValueError: if the config is not of the published architecture.
    """
    conv, layers = config.conv, dict[str, str]()
    stages, blocks = range(conv.downsamplings), list(product(range(conv.depth), (1, 3)))
    for theirs, ours in HALVES.items():
        encoder = f"{theirs}.encoders.0.level_blocks.0.model"
        for stage in stages:
            layers[f"{encoder}.{stage}.0"] = f"{ours}.encoder.stages.{stage}.0"
            for block, conv_ in blocks:
                layer = f"{ours}.encoder.stages.{stage}.1.{block}.layers.{conv_}"
                layers[f"{encoder}.{stage}.1.model.{block}.model.{conv_}"] = layer
        layers[f"{encoder}.{conv.downsamplings}"] = f"{ours}.encoder.out"
        decoders = {f"{theirs}.decoders.0": f"{ours}.decoder"}
        if rotations:
            decoders[f"{theirs}.decoders_rot.0"] = f"rotations.{ours}"
        if velocity and ours == "lower":
            decoders[f"{theirs}.decoders_root.0"] = "velocity"
        for decoder, own in decoders.items():
            inner = f"{decoder}.level_blocks.0.model"
            layers[f"{inner}.0"] = f"{own}.first"
            for stage in stages:
                for block, conv_ in blocks:
                    layer = f"{own}.stages.{stage}.0.{block}.layers.{conv_}"
                    layers[f"{inner}.{stage + 1}.0.model.{block}.model.{conv_}"] = layer
                layers[f"{inner}.{stage + 1}.1"] = f"{own}.stages.{stage}.1"
            layers[f"{decoder}.out"] = f"{own}.out"
        layers[f"{theirs}.bottleneck.level_blocks.0.k"] = f"{ours}.quantizer.codebook"
    with torch.device("meta"):
        return _tensors(layers, ChoreographicMemory(config, velocity, rotations).state_dict(), context=0)


def gpt_table(
    config: GPTConfig,
    num_codes: tuple[int, int],
    music_channels: int,
    value_blocks: int | None = None,
    frames_per_step: int = 1,
) -> Table:
    """Table of a motion GPT (CrossCondGPT2), with value blocks of an actor-critic one (CrossCondGPT2AC).

    With a music transformer: CrossCondGPT2MW and CrossCondGPT2MWAC.
    """
    gpt = "" if value_blocks is None else "gpt."
    layers = {}
    if config.music_transformer is not None:
        layers = {
            "music_trans.pos_emb": f"{gpt}music.unused_positions",
            "music_trans.cond_emb": f"{gpt}music.embed",
        }
    base_layers = {
        "gpt_base.pos_emb": f"{gpt}base.positions",
        "gpt_base.tok_emb_up": f"{gpt}base.embed_upper",
        "gpt_base.tok_emb_down": f"{gpt}base.embed_lower",
        "gpt_base.cond_emb": f"{gpt}base.embed_music",
    }
    block_layers = {
        "ln1": "norm_attention",
        "ln2": "norm_mlp",
        MASK: "",
        "attn.key": "attention.qkv[1]",
        "attn.query": "attention.qkv[0]",
        "attn.value": "attention.qkv[2]",
        "attn.proj": "attention.proj",
        "mlp.0": "mlp.0",
        "mlp.2": "mlp.2",
    }
    parts = [("gpt_base", f"{gpt}base", config.base_blocks), ("gpt_head", f"{gpt}head", config.head_blocks)]
    parts += [] if value_blocks is None else [("critic_net", "value", value_blocks)]
    if config.music_transformer is not None:
        parts = [("music_trans", f"{gpt}music", config.music_transformer.blocks), *parts]
    for theirs, ours, blocks in parts:
        if theirs == "gpt_base":
            layers |= base_layers
        for block, (layer, own) in product(range(blocks), block_layers.items()):
            layers[f"{theirs}.blocks.{block}.{layer}"] = own and f"{ours}.blocks.{block}.{own}"
        if theirs == "music_trans":
            layers[f"{theirs}.downsample"] = f"{ours}.join"
        elif theirs != "gpt_base":
            layers[f"{theirs}.ln_f"] = f"{ours}.norm"
            layers[f"{theirs}.head_up"] = f"{ours}.to_upper"
            layers[f"{theirs}.head_down"] = f"{ours}.to_lower"
    with torch.device("meta"):
        gpt_model = MotionGPT(config, num_codes, music_channels, frames_per_step)
        model: torch.nn.Module = gpt_model
        if value_blocks is not None:
            model = ActorCritic(gpt_model, ValueConfig(blocks=value_blocks))
        table = _tensors(layers, model.state_dict(), config.context)
    if config.music_transformer is not None:
        reach = config.music_transformer.reach
        frames = (config.context + 2 * reach) * frames_per_step
        for key in table:
            if key.startswith("music_trans") and key.endswith(MASK):
                table[key] = Entry((1, 1, frames, frames), "", band=reach * frames_per_step)
    return table


def _tensors(layers: Mapping[str, str], state: Mapping[str, Tensor], context: int) -> Table:
    """The table of all tensors: layers have a weight and perhaps a bias; `[n]` is the n-th third of one."""
    table: Table = {}
    for theirs, named in layers.items():
        if not named:
            table[theirs] = Entry((1, 1, context, context), "")
            continue
        ours, _, third = named.rstrip("]").partition("[")
        found = [suffix for suffix in ("", ".weight", ".bias") if ours + suffix in state]
        if not found:
            raise ValueError(f"{ours} is missing in the checkpoint: {_NOT_PUBLISHED}")
        for suffix in found:
            shape = tuple(state[ours + suffix].shape)
            if third:
                shape = (shape[0] // 3, *shape[1:])
            if ours.endswith(".positions"):
                shape = (1, shape[0] * shape[1], shape[2])
            table[theirs + suffix] = Entry(shape, ours + suffix, int(third or 0))
    return table


def to_ours(table: Table, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the tensors of a published file (keys without `module.`), which fit the table.

    The moving averages of codebooks are restored as ema_sum = codebook, ema_count = 1.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    for key, entry in table.items():
        if entry.ours:
            parts.setdefault(entry.ours, {})[entry.part] = published[key]
    ours: dict[str, Tensor] = {}
    for key, found in parts.items():
        value = found[0] if len(found) == 1 else torch.cat([found[part] for part in sorted(found)])
        if key.endswith(".positions"):
            value = value.view(3, -1, value.shape[-1])
        ours[key] = value.contiguous()
        quantizer, _, buffer = key.rpartition(".")
        if buffer == "codebook":
            ours[f"{quantizer}.ema_sum"] = value.clone()
            ours[f"{quantizer}.ema_count"] = torch.ones(len(value))
            ours[f"{quantizer}.initialised"] = torch.tensor(True)
            ours[f"{quantizer}.restarted"] = torch.tensor(0)
    return ours


def to_theirs(table: Table, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict (prefix `module.`) from ours, without moving averages and with causal masks.

    Raises:
        ValueError: naming tensors of ours that have no place in a published file.
    """
    places = {entry.ours for entry in table.values() if entry.ours}
    extra = sorted(key for key in ours if key not in places and not key.endswith(_MOVING_AVERAGES))
    missing = sorted(places - ours.keys())
    if extra or missing:
        what = "has no place in a published file" if extra else "is missing in the checkpoint"
        raise ValueError(f"{', '.join((extra or missing)[:3])} {what}: {_NOT_PUBLISHED}")
    fused = {entry.ours for entry in table.values() if entry.part}
    published: dict[str, Tensor] = {}
    for key, entry in table.items():
        value = ours[entry.ours] if entry.ours else entry.mask
        if entry.ours in fused:
            value = value.chunk(3)[entry.part]
        published[f"module.{key}"] = value.reshape(entry.shape).clone()
    return published
