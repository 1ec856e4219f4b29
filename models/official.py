"""Published checkpoints -> our state dicts, and back: only names change, and three linear maps become one.

Source: the published system's checkpoint keys (names are facts, the code is ours). A published state dict has
keys prefixed `module.`, holds one causal mask per GPT block, and does not hold the codebooks' moving
averages.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_HALVES = {"vqvae_up": "upper", "vqvae_down": "lower"}
_PARTS = {"gpt_base": "base", "gpt_head": "head", "critic_net": "value"}


def _memory_key(key: str) -> str:
    half, rest = key.split(".", 1)
    half = _HALVES[half]
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
    for half in _HALVES.values():
        codes = ours.get(f"{half}.codebook.codes")
        if codes is None:
            raise ValueError(f"the published memory lacks the codebook of its {half} half")
        ours[f"{half}.codebook.sums"] = codes.clone()
        ours[f"{half}.codebook.counts"] = torch.ones(len(codes))
        ours[f"{half}.codebook.initialised"] = torch.tensor(True)
        ours[f"{half}.codebook.restarted"] = torch.tensor(0)
    return ours


_GPT_NAMES = {
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
_QKV = ("query", "key", "value")


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
        part, _, rest = key.removeprefix("module.").partition(".")
        if part not in _PARTS or not rest:
            raise ValueError(f"{key!r} is not a key of a published motion GPT")
        if rest.endswith("attn.mask"):
            continue
        prefix = _PARTS[part] if part == "critic_net" or not with_value else f"gpt.{_PARTS[part]}"
        names = [_GPT_NAMES.get(name, name) for name in rest.split(".")]
        if rest == "pos_emb":
            ours[f"{prefix}.positions"] = value.view(3, -1, value.shape[-1])
        elif names[-2] in _QKV:
            parts.setdefault(".".join([prefix, *names[:-2], "qkv", names[-1]]), {})[names[-2]] = value
        else:
            ours[".".join([prefix, *names])] = value
    for key, split in parts.items():
        ours[key] = torch.cat([split[name] for name in _QKV])
    return ours
