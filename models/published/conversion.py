"""Published checkpoints as ours, and back.

    python -m models.published.conversion convert PUBLISHED.pt OURS.pt
    python -m models.published.conversion convert --back OURS.pt PUBLISHED.pt

The kind of network is seen from its keys: a choreographic memory (SepVQVAE), one with its velocity branch
(SepVQVAER), a motion GPT (CrossCondGPT2), an actor-critic one (CrossCondGPT2AC). Converting is optional:
every key of a config that names a checkpoint takes a published file as it is (`load_either`).

OURS.pt is a checkpoint that stages evaluate, freeze and build upon; it holds no state of an optimizer, so
training is not resumed from it. With --back, PUBLISHED.pt is {'model', 'config', 'epoch'} with the published
names; `config` is a plain dict. Weights are the same bits in both. Published files hold no moving averages of
the codebooks: they are restored as sums = codes, counts = 1. Nor do they say which music features a GPT
heard: that is `compat`, unless the file was made by --back from another one.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.conv import ConvConfig
from models.gpt import GPTConfig
from models.published.files import (
    Published,
    check_form,
    is_published,
    read_published,
    write_published,
)
from models.published.names import (
    gpt_form,
    gpt_from_published,
    gpt_to_published,
    memory_form,
    memory_from_published,
    memory_to_published,
)
from models.quantizer import CodebookConfig
from models.vqvae import MemoryConfig
from utils.config import check, to_plain
from utils.terminal import tolerant_output
from utils.training.checkpoints import load_checkpoint, save_checkpoint

FEATURES = "compat"  # what published GPTs heard
HEADS = 12  # of published GPTs; no tensor shows it
NETWORKS = {
    "sep_vqvae": "choreographic memory",
    "sep_vqvae_root": "choreographic memory with velocity branch",
    "motion_gpt": "motion GPT",
    "actor_critic": "actor-critic GPT",
}


def load_either(path: Path, made_by: str, stages: tuple[str, ...]) -> dict[str, Any]:
    """The content of a checkpoint: ours as it is, a published file as if we had written it.

    Args:
        path: of either.
        made_by: the command that makes ours, for messages.
        stages: which stages' checkpoints will do.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged, refused, of another architecture or of another stage.
    """
    if not is_published(path):
        return load_checkpoint(path, made_by, stages)
    content = from_published(read_published(path))
    if content["stage"] not in stages:
        raise ValueError(
            f"{path} is a published {NETWORKS[content['stage']]}; "
            f"here a {' or a '.join(NETWORKS[stage] for stage in stages)} is needed"
        )
    return content


def from_published(published: Published) -> dict[str, Any]:
    """The content of a checkpoint of ours.

    Raises:
        ValueError: naming every key and shape that is not the published architecture's (see `check_form`).
    """
    architecture: dict[str, Any]
    if published.kind == "memory":
        memory, velocity = _memory_sizes(published.state)
        stage = "sep_vqvae_root" if velocity else "sep_vqvae"
        check_form(published, memory_form(memory, velocity), NETWORKS[stage])
        model = memory_from_published(published.state)
        architecture = {"memory": to_plain(memory), "velocity": velocity}
    else:
        gpt, num_codes, music_channels, value_blocks = _gpt_sizes(published)
        stage = "motion_gpt" if value_blocks is None else "actor_critic"
        check_form(published, gpt_form(gpt, num_codes, music_channels, value_blocks), NETWORKS[stage])
        model = gpt_from_published(published.state)
        architecture = {"gpt": to_plain(gpt), "num_codes": list(num_codes), "music_channels": music_channels}
        architecture |= {} if value_blocks is None else {"value_blocks": value_blocks}
        architecture["music"] = published.config.get("music_features", FEATURES)
    model = {key: value.contiguous() for key, value in model.items()}
    content = {"stage": stage, "architecture": architecture, "model": model}
    return content | {"config": published.config, "epoch": published.epoch}


def to_published(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A published file's content, {'model', 'config', 'epoch'}, from that of a checkpoint of ours.

    Raises:
        ValueError: naming the source, if its network is none that a published file can hold.
    """
    architecture, model = content["architecture"], content["model"]
    config: dict[str, Any] = {"stage": content["stage"], "ours": content["config"]}
    try:
        if "memory" in architecture:
            memory = check(MemoryConfig, architecture["memory"], source)
            if memory.normalise_pose:
                raise ValueError(
                    "it works on normalised poses (normalise_pose: true), published ones on metres"
                )
            state = memory_to_published(model, memory_form(memory, bool(architecture["velocity"])))
        else:
            gpt = check(GPTConfig, architecture["gpt"], source)
            if not gpt.cross_conditional:
                raise ValueError(
                    "its halves are independent (cross_conditional: false), no published one's are"
                )
            upper, lower = architecture["num_codes"]
            blocks = architecture.get("value_blocks")
            state = gpt_to_published(
                model, gpt_form(gpt, (upper, lower), architecture["music_channels"], blocks)
            )
            config |= {"n_head": gpt.heads, "music_features": architecture["music"]}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{source} cannot be written in the published form: {error}") from None
    return {"model": state, "config": config, "epoch": int(content["epoch"])}


def _count(state: Mapping[str, Tensor], pattern: str, default: int) -> int:
    """One more than the largest number in the keys of a pattern; the default if no key has it."""
    found = [int(match[1]) for key in state if (match := re.match(pattern, key))]
    return max(found) + 1 if found else default


def _size(state: Mapping[str, Tensor], key: str, axis: int, default: int) -> int:
    """A size of a tensor; the published one if the tensor is not there: it is then named as missing."""
    return state[key].shape[axis] if key in state and state[key].ndim > axis else default


def _memory_sizes(state: Mapping[str, Tensor]) -> tuple[MemoryConfig, bool]:
    """The sizes that a published memory's tensors show, and whether it has the velocity branch."""
    model, plain = "vqvae_up.encoders.0.level_blocks.0.model", MemoryConfig()
    code = "vqvae_{}.bottleneck.level_blocks.0.k"
    width = _size(state, f"{model}.0.0.weight", 0, plain.conv.width)
    hidden = _size(state, f"{model}.0.1.model.0.model.1.weight", 0, width)
    conv = ConvConfig(
        width=max(width, 1),
        downsamplings=_count(state, re.escape(model) + r"\.(\d+)\.0\.weight", plain.conv.downsamplings),
        depth=_count(state, re.escape(model) + r"\.0\.1\.model\.(\d+)\.", plain.conv.depth),
        hidden_multiplier=max(hidden, 1) / max(width, 1),
    )
    memory = MemoryConfig(
        codes_upper=max(_size(state, code.format("up"), 0, plain.codes_upper), 1),
        codes_lower=max(_size(state, code.format("down"), 0, plain.codes_lower), 1),
        codebook=CodebookConfig(dim=max(_size(state, code.format("up"), 1, plain.codebook.dim), 1)),
        conv=conv,
    )
    return memory, any("decoders_root" in key for key in state)


def _gpt_sizes(published: Published) -> tuple[GPTConfig, tuple[int, int], int, int | None]:
    """The sizes of a published GPT: its config, both codebooks', the music's, and of the value stack."""
    state, plain = published.state, GPTConfig()
    num_codes = tuple(_size(state, f"gpt_base.tok_emb_{half}.weight", 0, 512) for half in ("up", "down"))
    width = max(_size(state, "gpt_base.tok_emb_up.weight", 1, plain.width), 1)
    heads = sorted(_named(published.config, "n_head")) or [HEADS]
    if len(heads) > 1 or heads[0] < 1 or width % heads[0]:
        raise ValueError(
            f"{published.path}: its width {width} cannot be split over its attention heads {heads} "
            f"(n_head in its config; {HEADS} where that does not say)"
        )
    gpt = GPTConfig(
        width=width,
        heads=heads[0],
        base_blocks=_count(state, r"gpt_base\.blocks\.(\d+)\.", plain.base_blocks),
        head_blocks=_count(state, r"gpt_head\.blocks\.(\d+)\.", plain.head_blocks),
        context=max(_size(state, "gpt_base.pos_emb", 1, 3 * plain.context) // 3, 1),
    )
    value_blocks = None
    if published.kind == "actor_critic":
        value_blocks = _count(state, r"critic_net\.blocks\.(\d+)\.", 3)
    return gpt, num_codes, _size(state, "gpt_base.cond_emb.weight", 1, 438), value_blocks  # type: ignore[return-value]


def _named(config: Any, name: str) -> set[int]:
    """All whole numbers under a name, anywhere in a config."""
    if isinstance(config, Mapping):
        own = {config[name]} if type(config.get(name)) is int else set()
        return own.union(*(_named(inner, name) for inner in config.values()))
    return (
        set().union(*(_named(inner, name) for inner in config)) if isinstance(config, list | tuple) else set()
    )


def convert(source: Path, target: Path, back: bool = False) -> str:
    """Converts a published file to ours, or ours back.

    Returns:
        What the network is.

    Raises:
        FileNotFoundError: if the source is missing.
        ValueError: if it is not what it should be, or the target is the source.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself; name another file")
    if not back:
        content = from_published(read_published(source))
        save_checkpoint(content, target)
        return NETWORKS[content["stage"]]
    if is_published(source):
        raise ValueError(f"{source} has the published form already (without --back it is converted to ours)")
    content = load_checkpoint(source, "python main.py --config CONFIG --train")
    write_published(to_published(content, str(source)), target)
    return NETWORKS[content["stage"]]


def main(arguments: list[str] | None = None) -> int:
    """The command line; what the user can mend ends with one line and exit code 2."""
    tolerant_output()
    parser = argparse.ArgumentParser(
        prog="python -m models.published.conversion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["convert"])
    parser.add_argument("--back", action="store_true", help="from ours to the published form")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_intermixed_args(arguments)
    try:
        what = convert(options.source, options.target, options.back)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.target}: {what}")
    return 0


__all__ = [
    "convert",
    "from_published",
    "gpt_from_published",
    "is_published",
    "load_either",
    "memory_from_published",
    "to_published",
]

if __name__ == "__main__":
    sys.exit(main())
