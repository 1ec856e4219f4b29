"""Names and shapes in published checkpoints, generated from sizes, and what each of them is called here.

Source: the published system's checkpoint keys (names are facts, the code is ours). Only names differ, but for
three things: query, key and value are one linear map here; the three streams' positions are an axis of their
own here; and there, each GPT block holds a causal mask. The codebooks' moving averages are not in a published
file.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.gpt import GPTConfig
from models.vqvae import MemoryConfig
from utils.skeleton import SKELETONS

Form = dict[str, tuple[int, ...]]  # key, without `module.`, -> shape; in the file's order

HALVES = {"vqvae_up": "upper", "vqvae_down": "lower"}
PARTS = {"gpt_base": "base", "gpt_head": "head", "critic_net": "value"}
_QKV = ("query", "key", "value")
_NAMES = {
    "tok_emb_up": "embed_upper",
    "tok_emb_down": "embed_lower",
    "cond_emb": "embed_music",
    "head_up": "to_upper",
    "head_down": "to_lower",
    "ln_f": "norm",
    "ln1": "norm_attention",
    "ln2": "norm_mlp",
    "attn": "attention",
}


def memory_form(config: MemoryConfig, velocity: bool) -> Form:
    """Keys and shapes of a published choreographic memory (SepVQVAE; with its velocity branch SepVQVAER)."""
    conv, dim, skeleton = config.conv, config.codebook.dim, SKELETONS[config.skeleton]
    sizes = {
        "vqvae_up": (3 * len(skeleton.upper), config.codes_upper),
        "vqvae_down": (3 * len(skeleton.lower), config.codes_lower),
    }
    hidden, stages = max(1, round(conv.hidden_multiplier * conv.width)), conv.downsamplings

    def map_(key: str, *shape: int, out: int = 0) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{key}.weight", shape
        yield f"{key}.bias", (out or shape[0],)

    def stack(key: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        for block in range(conv.depth):
            yield from map_(f"{key}.model.{block}.model.1", hidden, conv.width, 3)
            yield from map_(f"{key}.model.{block}.model.3", conv.width, hidden, 1)

    def encoder(key: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for stage in range(stages):
            yield from map_(f"{key}.{stage}.0", conv.width, conv.width if stage else channels, 4)
            yield from stack(f"{key}.{stage}.1")
        yield from map_(f"{key}.{stages}", dim, conv.width, 3)

    def decoder(key: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        inner = f"{key}.level_blocks.0.model"
        yield from map_(f"{inner}.0", conv.width, dim, 3)
        for stage in range(1, stages + 1):
            yield from stack(f"{inner}.{stage}.0")
            out = dim if stage == stages else conv.width
            yield from map_(f"{inner}.{stage}.1", conv.width, out, 4, out=out)
        yield from map_(f"{key}.out", channels, dim, 3)

    form: Form = {}
    for half, (channels, num_codes) in sizes.items():
        form.update(encoder(f"{half}.encoders.0.level_blocks.0.model", channels))
        form.update(decoder(f"{half}.decoders.0", channels))
        if velocity and half == "vqvae_down":
            form.update(decoder(f"{half}.decoders_root.0", 3))
        form[f"{half}.bottleneck.level_blocks.0.k"] = (num_codes, dim)
    return form


def gpt_form(
    config: GPTConfig, num_codes: tuple[int, int], music_channels: int, value_blocks: int | None = None
) -> Form:
    """Keys and shapes of a published motion GPT (CrossCondGPT2), with value blocks CrossCondGPT2AC."""
    width, form = config.width, Form()

    def map_(key: str, out: int, size: int) -> None:
        form[f"{key}.weight"], form[f"{key}.bias"] = (out, size), (out,)

    def norm(key: str) -> None:
        form[f"{key}.weight"] = form[f"{key}.bias"] = (width,)

    def blocks(part: str, number: int) -> None:
        for block in range(number):
            key = f"{part}.blocks.{block}"
            norm(f"{key}.ln1")
            norm(f"{key}.ln2")
            form[f"{key}.attn.mask"] = (1, 1, config.context, config.context)
            for name in ("key", "query", "value", "proj"):
                map_(f"{key}.attn.{name}", width, width)
            map_(f"{key}.mlp.0", 4 * width, width)
            map_(f"{key}.mlp.2", width, 4 * width)

    def head(part: str, number: int, outputs: tuple[int, int]) -> None:
        blocks(part, number)
        norm(f"{part}.ln_f")
        form[f"{part}.head_up.weight"], form[f"{part}.head_down.weight"] = (
            (outputs[0], width),
            (outputs[1], width),
        )

    form["gpt_base.pos_emb"] = (1, 3 * config.context, width)
    form["gpt_base.tok_emb_up.weight"] = (num_codes[0], width)
    form["gpt_base.tok_emb_down.weight"] = (num_codes[1], width)
    map_("gpt_base.cond_emb", width, music_channels)
    blocks("gpt_base", config.base_blocks)
    head("gpt_head", config.head_blocks, num_codes)
    if value_blocks is not None:
        head("critic_net", value_blocks, (1, 1))
    return form


def _memory_key(key: str) -> str:
    half, rest = key.split(".", 1)
    half = HALVES[half]
    if rest == "bottleneck.level_blocks.0.k":
        return f"{half}.codebook.codes"
    kind, _, rest = re.fullmatch(r"(encoders|decoders|decoders_root)\.(0)\.(.*)", rest).groups()  # type: ignore[union-attr]
    prefix = {"encoders": f"{half}.encoder", "decoders": f"{half}.decoder", "decoders_root": "velocity"}[kind]
    rest = rest.removeprefix("level_blocks.0.model.")
    if rest.startswith("out."):
        return f"{prefix}.{rest}"
    stage, rest = rest.split(".", 1)
    if rest in ("weight", "bias"):  # the encoder's last convolution, the decoder's first
        return f"{prefix}.{'out' if kind == 'encoders' else 'first'}.{rest}"
    number = int(stage) if kind == "encoders" else int(stage) - 1
    rest = re.sub(r"^([01])\.model\.(\d+)\.model\.", r"\1.\2.layers.", rest)
    return f"{prefix}.stages.{number}.{rest}"


def _gpt_key(key: str, with_value: bool) -> tuple[str, str]:
    """Our key, and which of query, key and value it is a part of ('' if it is whole)."""
    part, _, rest = key.partition(".")
    if part not in PARTS or not rest:
        raise ValueError(f"{key!r} is not a key of a published motion GPT")
    prefix = PARTS[part] if part == "critic_net" or not with_value else f"gpt.{PARTS[part]}"
    if rest == "pos_emb":
        return f"{prefix}.positions", ""
    names = [_NAMES.get(name, name) for name in rest.split(".")]
    if len(names) > 1 and names[-2] in _QKV:
        return ".".join([prefix, *names[:-2], "qkv", names[-1]]), names[-2]
    return ".".join([prefix, *names]), ""


def memory_from_published(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of a `ChoreographicMemory` from a published one (SepVQVAE or SepVQVAER).

    The published files do not hold the moving averages: they are restored as sums = codes, counts = 1.

    Raises:
        ValueError: naming a key that is not a published one.
    """
    ours: dict[str, Tensor] = {}
    for key, value in published.items():
        try:
            ours[_memory_key(key.removeprefix("module."))] = value
        except (KeyError, ValueError, AttributeError):
            raise ValueError(f"{key!r} is not a key of a published choreographic memory") from None
    for half in HALVES.values():
        codes = ours.get(f"{half}.codebook.codes")
        if codes is None:
            raise ValueError(f"the published memory lacks the codebook of its {half} half")
        ours[f"{half}.codebook.sums"] = codes.clone()
        ours[f"{half}.codebook.counts"] = torch.ones(len(codes))
        ours[f"{half}.codebook.initialised"] = torch.tensor(True)
        ours[f"{half}.codebook.restarted"] = torch.tensor(0)
    return ours


def gpt_from_published(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict of a `MotionGPT` or `ActorCritic` from a published one (CrossCondGPT2, CrossCondGPT2AC).

    A dict with the published critic gives an `ActorCritic`, one without gives a `MotionGPT`.

    Raises:
        ValueError: naming a key that is not a published one.
    """
    with_value = any("critic_net." in key for key in published)
    ours: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in published.items():
        name, part = _gpt_key(key.removeprefix("module."), with_value)
        if name.endswith("attention.mask"):
            continue
        if part:
            parts.setdefault(name, {})[part] = value
        else:
            ours[name] = value.view(3, -1, value.shape[-1]) if name.endswith("positions") else value
    for key, split in parts.items():
        ours[key] = torch.cat([split[name] for name in _QKV])
    return ours


def memory_to_published(ours: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """A published state dict (prefix `module.`) from ours; moving averages are left out, as there.

    Raises:
        ValueError: naming tensors of ours that have no place in a published file.
    """
    names = {key: _memory_key(key) for key in form}
    averages = (".sums", ".counts", ".initialised", ".restarted")
    _all_placed({key for key in ours if not key.endswith(averages)}, set(names.values()))
    return {f"module.{key}": ours[name].clone() for key, name in names.items()}


def gpt_to_published(ours: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """A published state dict (prefix `module.`) from ours, with the causal masks those files hold.

    Raises:
        ValueError: naming tensors of ours that have no place in a published file.
    """
    with_value = any(key.startswith("critic_net.") for key in form)
    names = {key: _gpt_key(key, with_value) for key in form}
    masks = {key for key in form if key.endswith("attn.mask")}
    _all_placed(set(ours), {name for key, (name, _) in names.items() if key not in masks})
    published = {}
    for key, (name, part) in names.items():
        if key in masks:
            value = causal_mask(form[key][-1])
        else:
            value = ours[name].chunk(3)[_QKV.index(part)] if part else ours[name]
        published[f"module.{key}"] = value.reshape(form[key]).clone()
    return published


def causal_mask(context: int) -> Tensor:
    """The mask (1, 1, context, context) of every published block: 1 where the row may see the column."""
    return torch.ones(context, context).tril().view(1, 1, context, context)


def _all_placed(ours: set[str], places: set[str]) -> None:
    extra, missing = sorted(ours - places), sorted(places - ours)
    if extra or missing:
        which = ", ".join((extra or missing)[:3])
        what = "has no place in a published file" if extra else "is missing in the checkpoint"
        raise ValueError(f"{which} {what}: this is not the published architecture")
