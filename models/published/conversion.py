"""Published checkpoints as ours, and back; `python -m models.published` is the command.

The kind of network is recognised by its keys: a choreographic memory (SepVQVAE), one with its velocity branch
(SepVQVAER), one with rotation decoders too (SepVQVAERmix), a motion GPT (CrossCondGPT2), an actor-critic one
(CrossCondGPT2AC), and these two with Bailando++'s music transformer (CrossCondGPT2MW, CrossCondGPT2MWAC).
Weights are the same bits in both forms. Published files do not state the version of the music features a GPT
was trained on: it is `compat`, with a music transformer `frames`, unless the file was exported from a GPT
that was trained on others.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.conv import ConvConfig
from models.gpt import GPTConfig, MusicTransformerConfig
from models.published.files import Published, check_form
from models.published.names import gpt_table, memory_table, to_ours, to_theirs
from models.quantizer import CodebookConfig
from models.vqvae import ChoreographicMemory, MemoryConfig
from utils.config import check, to_plain

FEATURES = "compat"  # of published GPTs
FEATURES_MUSIC = "frames"  # of those with a music transformer
HEADS = 12  # of published GPTs; no tensor shows it
# Settings of a published memory that no tensor's shape shows, and the only value that can be built.
_BUILT = {
    "vqvae_reverse_decoder_dilation": True,
    "use_bottleneck": True,
    "rot_channel": 9,
    "use_6d_rotation": False,
}
NETWORKS = {
    "sep_vqvae": "choreographic memory",
    "sep_vqvae_root": "choreographic memory with velocity branch",
    "sep_vqvae_root_mix": "choreographic memory with velocity branch and rotation decoders",
    "motion_gpt": "motion GPT",
    "actor_critic": "actor-critic GPT",
}


def from_published(published: Published) -> dict[str, Any]:
    """The content of a checkpoint of ours.

    Raises:
        ValueError: naming every key and shape that is not the published architecture's (see `check_form`), or
            a setting of the file's config that cannot be built or contradicts the shapes.
    """
    architecture: dict[str, Any]
    if published.kind == "memory":
        memory, velocity, rotations = _memory_sizes(published)
        stage = "sep_vqvae_root" if velocity else "sep_vqvae"
        if rotations:
            stage, velocity = "sep_vqvae_root_mix", True  # published ones have both
        table = memory_table(memory, velocity, rotations)
        architecture = {"memory": to_plain(memory), "velocity": velocity, "rotations": rotations}
    else:
        gpt, num_codes, music_channels, value_blocks = _gpt_sizes(published)
        stage = "motion_gpt" if value_blocks is None else "actor_critic"
        frames = 1
        if gpt.music_transformer is not None:
            frames = _frames_per_step(published, gpt.music_transformer)
            music_channels *= frames
        table = gpt_table(gpt, num_codes, music_channels, value_blocks, frames)
        architecture = {"gpt": to_plain(gpt), "num_codes": list(num_codes), "music_channels": music_channels}
        architecture |= {} if value_blocks is None else {"value_blocks": value_blocks}
        architecture |= {} if frames == 1 else {"frames_per_step": frames}
        features = FEATURES if gpt.music_transformer is None else FEATURES_MUSIC
        architecture["music"] = published.config.get("music_features", features)
    check_form(published, table, NETWORKS[stage])
    return {
        "stage": stage,
        "architecture": architecture,
        "model": to_ours(table, published.state),
        "config": published.config,
        "epoch": published.epoch,
    }


def to_published(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Content {'model', 'config', 'epoch'} of a published file, from that of a checkpoint of ours.

    Raises:
        ValueError: naming the source, if published files cannot hold its network.
    """
    architecture = content["architecture"]
    model = {ChoreographicMemory.current_name(key): value for key, value in content["model"].items()}
    config: dict[str, Any] = {"stage": content["stage"], "ours": content["config"]}
    try:
        if "memory" in architecture:
            memory = check(MemoryConfig, architecture["memory"], source)
            half = {"dilation_growth_rate": memory.conv.dilation_growth}
            config["structure"] = {"up_half": half, "down_half": dict(half)}
            if memory.normalise_pose:
                raise ValueError(
                    "it works on normalised poses (normalise_pose: true), published ones on metres"
                )
            velocity, rotations = (bool(architecture.get(part)) for part in ("velocity", "rotations"))
            table = memory_table(memory, velocity, rotations)
        else:
            gpt = check(GPTConfig, architecture["gpt"], source)
            if not gpt.cross_conditional:
                raise ValueError(
                    "its halves are independent (cross_conditional: false), no published one's are"
                )
            if gpt.embed != "index":
                raise ValueError("it embeds codebook vectors (embed: codebook), published ones embed indices")
            upper, lower = architecture["num_codes"]
            blocks = architecture.get("value_blocks")
            frames = architecture.get("frames_per_step", 1)
            table = gpt_table(gpt, (upper, lower), architecture["music_channels"], blocks, frames)
            config |= {"n_head": gpt.heads, "music_features": architecture["music"]}
        state = to_theirs(table, model)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{source} cannot be written in the published form: {error}") from None
    return {"model": state, "config": config, "epoch": int(content["epoch"])}


def _count(state: Mapping[str, Tensor], pattern: str, default: int) -> int:
    """One more than the largest number in the keys of a pattern; the default if no key has it.

    At most the number of keys: larger numbers leave gaps, whose keys are then named as missing.
    """
    found = [int(match[1]) for key in state if (match := re.match(pattern, key))]
    return min(max(found) + 1, len(state)) if found else default


def _size(state: Mapping[str, Tensor], key: str, axis: int, default: int) -> int:
    """A size of a tensor; the published one if the tensor is absent, which is then named as missing."""
    return state[key].shape[axis] if key in state and state[key].ndim > axis else default


def _memory_sizes(published: Published) -> tuple[MemoryConfig, bool, bool]:
    """Sizes of a published memory by its tensors and its config; whether it has velocity, and rotations.

    Raises:
        ValueError: if the config has a setting that cannot be built, or that contradicts the tensors.
    """
    state = published.state
    model, plain = "vqvae_up.encoders.0.level_blocks.0.model", MemoryConfig()
    code = "vqvae_{}.bottleneck.level_blocks.0.k"
    width = _size(state, f"{model}.0.0.weight", 0, plain.conv.width)
    hidden = _size(state, f"{model}.0.1.model.0.model.1.weight", 0, width)
    depth = _count(state, re.escape(model) + r"\.0\.1\.model\.(\d+)\.", plain.conv.depth)
    multiplier = max(hidden, 1) / max(width, 1)
    growth = _one_setting(published, "dilation_growth_rate", plain.conv.dilation_growth)
    if type(growth) is not int or growth < 1:
        raise ValueError(
            f"{published.path}: its dilation_growth_rate is {growth!r}; expected a whole number > 0"
        )
    for name, built in {**_BUILT, "depth": depth, "width": width, "m_conv": multiplier}.items():
        value = _one_setting(published, name, built)
        if value != built:
            shown = "this project builds" if name in _BUILT else "its tensors show"
            raise ValueError(f"{published.path}: {name} is {value!r} in its config, {shown} {built!r} only")
    conv = ConvConfig(
        width=max(width, 1),
        downsamplings=_count(state, re.escape(model) + r"\.(\d+)\.0\.weight", plain.conv.downsamplings),
        depth=depth,
        dilation_growth=growth,
        hidden_multiplier=multiplier,
    )
    memory = MemoryConfig(
        codes_upper=max(_size(state, code.format("up"), 0, plain.codes_upper), 1),
        codes_lower=max(_size(state, code.format("down"), 0, plain.codes_lower), 1),
        codebook=CodebookConfig(dim=max(_size(state, code.format("up"), 1, plain.codebook.dim), 1)),
        conv=conv,
    )
    velocity, rotations = (
        any(f".{part}." in key for key in state) for part in ("decoders_root", "decoders_rot")
    )
    return memory, velocity, rotations


def _one_setting(published: Published, name: str, default: Any) -> Any:
    """The value of a setting in the structure of a published config; the default if it is not there.

    Raises:
        ValueError: if parts of the network have different values.
    """
    values = _named(published.config.get("structure", {}), name)
    if any(value != values[0] for value in values):
        raise ValueError(
            f"{published.path}: {name} differs between parts of its config ({values}); one value is needed"
        )
    return values[0] if values else default


def _gpt_sizes(published: Published) -> tuple[GPTConfig, tuple[int, int], int, int | None]:
    """Sizes of a published GPT: its config, numbers of codes, music channels and value blocks."""
    state, plain = published.state, GPTConfig()
    upper, lower = (_size(state, f"gpt_base.tok_emb_{half}.weight", 0, 512) for half in ("up", "down"))
    width = max(_size(state, "gpt_base.tok_emb_up.weight", 1, plain.width), 1)
    heads = sorted({value for value in _named(published.config, "n_head") if type(value) is int}) or [HEADS]
    if len(heads) > 1 or heads[0] < 1 or width % heads[0]:
        raise ValueError(
            f"{published.path}: its width {width} cannot be split over its attention heads {heads} "
            f"(n_head in its config; {HEADS} where that does not say)"
        )
    context = max(_size(state, "gpt_base.pos_emb", 1, 3 * plain.context) // 3, 1)
    if _one_setting(published, "block_size", context) != context:
        size = _one_setting(published, "block_size", context)
        raise ValueError(
            f"{published.path}: block_size is {size!r} in its config, its tensors show {context}"
        )
    music = _music_sizes(published, context, heads[0])
    gpt = GPTConfig(
        width=width,
        heads=heads[0],
        base_blocks=_count(state, r"gpt_base\.blocks\.(\d+)\.", plain.base_blocks),
        head_blocks=_count(state, r"gpt_head\.blocks\.(\d+)\.", plain.head_blocks),
        context=context,
        music_transformer=music,
    )
    value_blocks = None
    if published.kind == "actor_critic":
        value_blocks = _count(state, r"critic_net\.blocks\.(\d+)\.", 3)
    if music is not None:
        return gpt, (upper, lower), _size(state, "music_trans.cond_emb.weight", 1, 55), value_blocks
    return gpt, (upper, lower), _size(state, "gpt_base.cond_emb.weight", 1, 438), value_blocks


def _music_sizes(published: Published, context: int, heads: int) -> MusicTransformerConfig | None:
    """Sizes of the music transformer of a published GPT; None if it has none.

    Raises:
        ValueError: if its width cannot be split over its heads.
    """
    state, plain = published.state, MusicTransformerConfig()
    if not any(key.startswith("music_trans.") for key in state):
        return None
    width = max(_size(state, "music_trans.cond_emb.weight", 0, plain.width), 1)
    if width % heads:
        raise ValueError(
            f"{published.path}: the width {width} of its music transformer cannot be split over {heads} "
            "attention heads"
        )
    sizes = MusicTransformerConfig(
        width=width, heads=heads, blocks=max(_count(state, r"music_trans\.blocks\.(\d+)\.", plain.blocks), 1)
    )
    rows = _size(state, "music_trans.pos_emb", 1, 0)
    spare = rows // _frames_per_step(published, sizes) - context
    window = _one_setting(published, "window_size", spare + 1)
    if spare < 2 or spare % 2 or window != spare + 1:
        raise ValueError(
            f"{published.path}: its music transformer has {rows} places for frames and window_size "
            f"{window!r}; a context of {context} codes needs window_size - 1 more, an even number"
        )
    return sizes.model_copy(update={"reach": spare // 2})


def _frames_per_step(published: Published, music: MusicTransformerConfig) -> int:
    """Frames of music per code by the map that joins them."""
    joined = _size(published.state, "music_trans.downsample.weight", 1, 8 * music.width)
    return max(joined // music.width, 1)


def _named(config: Any, name: str) -> list[Any]:
    """All values under a name, anywhere in a config, in its order."""
    if isinstance(config, Mapping):
        own = [config[name]] if name in config and not isinstance(config[name], Mapping) else []
        return own + [value for inner in config.values() for value in _named(inner, name)]
    inner_lists = config if isinstance(config, list | tuple) else ()
    return [value for inner in inner_lists for value in _named(inner, name)]
