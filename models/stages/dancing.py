"""--dance: any songs become dances, all composed as one batch, each with its files and pages.

Exit codes: 0 if every song was danced to and every file written; 1 if some was not; 2 if none was, or the
config or the weights cannot be used.
"""

import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from models.generation import FREE, generate_all
from models.stages.base import RunConfig
from models.stages.dance_files import SUFFIXES, Danced, Stopwatch, facts_of, write_dance
from models.stages.dance_songs import HeardSong, file_names, hear_all, named, one_line
from models.stages.dancer import (
    DanceConfig,
    Dancer,
    DancingConfig,
    load_dancer,
    locked_codes,
    opening_codes,
)
from models.stages.pages import Failures, kept_apart
from models.streaming import look_ahead
from models.vqvae import ChoreographicMemory, Codes
from utils.config import to_plain
from utils.export import level_floor
from utils.motion import pose_to_joints
from utils.render.index import write_index

log = logging.getLogger(__name__)
_BATCH_STEPS = 400_000  # music steps of a batch, padding included: 0.7 GB of features; more go by turns
_DECODED = 512  # codes decoded at a time, so that an hour needs no more memory than a minute
_PACKAGES = ("torch", "numpy", "scipy", "librosa", "av")


class Plan(NamedTuple):
    """A dance to be made: its name, the song, which variant, the key of its draws, and where it sets out."""

    name: str
    song: HeardSong
    variant: int
    key: str
    first_step: int


def dance(config: RunConfig, songs: Sequence[str], device: torch.device, out: Path | None = None) -> int:
    """Dances to songs.

    Args:
        config: of a stage with a motion GPT.
        songs: sound files, and folders of them.
        device: where it is composed.
        out: folder of all files; <run folder>/dance if None.

    Returns:
        The exit code, 0 or 1, see above.

    Raises:
        FileNotFoundError: if a checkpoint or a file that the config names is missing.
        ValueError: if the config or a checkpoint cannot be used, or no song is left.
    """
    if not isinstance(config, DancingConfig):
        raise ValueError(
            f"stage {config.stage} has no motion GPT and cannot dance; use configs/actor_critic.yaml or "
            "configs/cc_motion_gpt.yaml"
        )
    folder = out or config.folder / "dance"
    _check(config.dance, config.generation.temperature, songs, folder)
    watch = Stopwatch()
    with watch.of("weights"):
        dancer = load_dancer(config, device)
    opening, locked = opening_codes(config, dancer), locked_codes(config.dance, dancer)
    with watch.of("features"):
        heard, failed = hear_all([Path(song) for song in songs], dancer)
    if not heard:
        raise ValueError(f"none of the songs can be danced to ({len(failed)} failed, see above)")
    lost = [Path(path) for path in failed]
    names = file_names(list(heard), config.dance.variants, SUFFIXES, folder, lost)
    plans = [
        _plan(name, heard[path], variant, config.dance.start, dancer.memory)
        for path in heard
        for variant, name in enumerate(names[path], 1)
    ]
    with watch.of("codes"):
        composed = compose(dancer, plans, opening, locked, config, device)
    facts, entries, broken = _facts(config, dancer), [], Failures()
    reasons = {one_line(p): {"": one_line(why.replace(p, Path(p).name))} for p, why in failed.items()}
    tables = {"Not danced to": reasons} if failed else {}
    for plan, codes in zip(tqdm(plans, "dances", leave=False, disable=None), composed, strict=True):
        with watch.of("joints"):
            danced = _danced(plan, codes, dancer, config.dance.level, facts)
        entries.append(write_dance(folder, danced, config.dance, watch, broken))
        with kept_apart("index of the dances", broken), watch.of("pages"):
            write_index(folder, entries, f"{config.name} dances", tables)
    print(f"songs: {len(heard)}, dances: {len(entries)}; open {folder / 'index.html'}")
    log.info("%s", watch)
    for what, items in (("not danced to", failed), ("could not be made", broken)):
        if items:
            print(f"{len(items)} {what}:")
            print("\n".join(f"  {named(key, why)}" for key, why in items.items()))
    return 1 if failed or broken else 0


def _check(wanted: DanceConfig, temperature: float, songs: Sequence[str], folder: Path) -> None:
    """Raises ValueError if there is nothing to do, or it cannot be done, whatever the songs are."""
    if wanted.variants > 1 and temperature == 0:
        raise ValueError(
            f"dance.variants is {wanted.variants}, but at generation.temperature 0 all variants are the same "
            "dance; set generation.temperature=1 to draw codes"
        )
    if not songs:
        raise ValueError("--dance needs songs: sound files, or folders of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out needs a folder")


def _plan(name: str, song: HeardSong, variant: int, start: str, memory: ChoreographicMemory) -> Plan:
    beats = np.flatnonzero(song.beats)
    first = int(beats[0]) // memory.frames_per_code if start == "beat" and len(beats) else 0
    stem = one_line(song.path.stem)
    return Plan(name, song, variant, stem if variant == 1 else f"{stem}_v{variant}", first)


def compose(
    dancer: Dancer,
    plans: Sequence[Plan],
    opening: Codes,
    locked: Codes | None,
    config: DancingConfig,
    device: torch.device,
) -> list[Codes]:
    """The codes (n,) each of every dance, from where it sets out; no dance depends on another.

    Where a half is locked, that counts before the opening.
    """
    music = [plan.song.features[plan.first_step :] for plan in plans]
    locks = [None if locked is None else Codes(*(h[plan.first_step :] for h in locked)) for plan in plans]
    openings = []
    for song, lock in zip(music, locks, strict=True):
        halves = [half[: len(song)].clone() for half in opening]
        for half, given in zip(halves, lock or (), strict=False):
            part = given[: len(half)]
            half[: len(part)] = torch.where(part == FREE, half[: len(part)], part)
        openings.append(Codes(*halves))
    order = sorted(range(len(plans)), key=lambda i: -len(music[i]))
    composed: dict[int, Codes] = {}
    while order:
        size = max(1, _BATCH_STEPS // len(music[order[0]]))
        now, order = order[:size], order[size:]
        codes = generate_all(
            dancer.gpt,
            [music[i] for i in now],
            [openings[i] for i in now],
            config.generation,
            device,
            progress=True,
            locked=None if locked is None else [locks[i] for i in now],
            keys=[plans[i].key for i in now],
        )
        composed |= dict(zip(now, codes, strict=True))
    return [composed[i] for i in range(len(plans))]


@torch.no_grad()
def decode(memory: ChoreographicMemory, codes: Codes, device: torch.device) -> np.ndarray:
    """Joints (T, J, 3) float32 of codes (n,) each; the dancer starts at the origin.

    In stretches that overlap by all that a frame depends on: the same as at once.
    """
    length, margin, each = len(codes.upper), look_ahead(memory.config.conv), memory.frames_per_code
    parts = []
    for start in range(0, length, _DECODED):
        end = min(start + _DECODED, length)
        first, last = max(0, start - margin), min(length, end + margin)
        pose = memory.decode(Codes(*(half[None, first:last].to(device) for half in codes)))[0]
        parts.append(pose[(start - first) * each : (end - first) * each].cpu())
    return pose_to_joints(torch.cat(parts).double()).float().numpy()


def _danced(
    plan: Plan, codes: Codes, dancer: Dancer, level: bool, facts: Mapping[str, str | int | float]
) -> Danced:
    """The dance as joints as long as the song, with the rest before it sets out."""
    memory, rest = dancer.memory, plan.first_step
    still = rest * memory.frames_per_code
    joints = decode(memory, codes, next(memory.parameters()).device)[: len(plan.song.beats) - still]
    wandered = None
    if level:
        joints, wandered = level_floor(joints, float(memory.skeleton.fps))
    joints = np.concatenate([np.repeat(joints[:1], still, axis=0), joints])
    both = torch.stack([codes.upper, codes.lower], dim=1).numpy()
    both = np.concatenate([np.full((rest, 2), FREE, both.dtype), both])
    path = plan.song.path
    own = {"song": one_line(path.stem), "song_file": one_line(path.name), "variant": plan.variant}
    own |= {"key": plan.key, "first_step": rest}
    return Danced(
        plan.name,
        plan.song.path,
        joints,
        both[: -(-len(joints) // memory.frames_per_code)],
        plan.song.beats[: len(joints)],
        float(memory.skeleton.fps),
        memory.frames_per_code,
        {**own, **facts},
        wandered,
    )


def _facts(config: DancingConfig, dancer: Dancer) -> dict[str, str | int | float]:
    """What every dance of this call came from."""
    plain = to_plain(config)
    return {
        "run": config.name,
        **dancer.facts,
        "seed": config.generation.seed,
        "generation": facts_of(plain["generation"]),
        "dance": facts_of(plain["dance"]),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
