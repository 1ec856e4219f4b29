"""Inputs of generation in --dance: the weights, and the codes that are given."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.sequences import num_features
from models.checkpoints import load_memory, load_run_policy
from models.generation import FREE
from models.gpt import MotionGPT
from models.inference.config import DanceConfig
from models.stages.base import GPTRunConfig, check_codes
from models.vqvae import ChoreographicMemory, Codes
from utils.dance import load_codes
from utils.music import FeatureVersion, check_version

log = logging.getLogger(__name__)


class Networks(NamedTuple):
    """A memory and a GPT that fit each other.

    Attributes:
        memory: with its velocity branch, frozen.
        gpt: in eval mode.
        features: version of the music features that the GPT was trained on.
        facts: their origin: files, SHA-256, stage and epoch.
    """

    memory: ChoreographicMemory
    gpt: MotionGPT
    features: FeatureVersion
    facts: dict[str, str | int | float]

    @property
    def codes_per_second(self) -> float:
        """Codes, and so steps of music, per second."""
        return self.memory.skeleton.fps / self.memory.frames_per_code


def load_networks(config: GPTRunConfig, device: torch.device) -> Networks:
    """Memory and GPT of a config; no prepared data is needed.

    The weights are those that --eval uses: the config's checkpoint, at its selected epoch if one was
    selected, or the published file that the key `gpt` names.

    Raises:
        FileNotFoundError: naming the command that makes what is missing.
        ValueError: if memory and GPT do not fit each other, or the music features.
    """
    vqvae = Path(config.vqvae)
    memory = load_memory(vqvae, config.made_by(vqvae), velocity=True).to(device)
    policy = load_run_policy(config)
    path = policy.path
    try:
        features = check_version(policy.architecture["music"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    gpt = policy.gpt.to(device).eval().requires_grad_(False)
    if gpt.num_codes != memory.num_codes:
        raise ValueError(
            f"{path} knows {gpt.num_codes} codes (upper, lower), the memory {vqvae} has {memory.num_codes}; "
            "they must be of one training"
        )
    check_codes(policy.codes, memory, path, config.vqvae)
    per_second = memory.skeleton.fps / memory.frames_per_code
    given = num_features(features, per_second)
    if gpt.music_channels != given:
        raise ValueError(
            f"{path} needs {gpt.music_channels} music features; a song gives {given} of version {features!r}"
        )
    facts: dict[str, str | int | float] = {
        "stage": policy.stage,
        "checkpoint": str(path),
        "checkpoint_sha256": _digest(path),
        "epoch": policy.epoch,
        "memory": str(vqvae),
        "memory_sha256": _digest(vqvae),
        "music_features": features,
    }
    return Networks(memory, gpt, features, facts)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def opening_codes(config: GPTRunConfig, networks: Networks) -> Codes:
    """The codes (n,) each from which dances continue.

    Raises:
        FileNotFoundError: if the file of a motion is missing.
        ValueError: if it holds none, or a code is not in its codebook.
    """
    given = config.dance.opening
    if isinstance(given, str):
        return _encoded(Path(given), networks, config.dance.opening_codes)
    pairs = (config.generation.first_codes,) if given is None else given
    key = "generation.first_codes" if given is None else "dance.opening"
    if not pairs:
        raise ValueError("dance.opening holds no codes; give [[upper, lower], ...], a file, or null")
    halves = zip(*pairs, strict=True)
    upper, lower = (
        _checked(half, most, key) for half, most in zip(halves, networks.memory.num_codes, strict=True)
    )
    return Codes(upper, lower)


def _encoded(path: Path, networks: Networks, number: int) -> Codes:
    """The first codes of a motion that is encoded as a whole, as real dances are.

    What is wrong with the motion is logged, a line each; its axes or its unit may be others.
    """
    from utils.metrics.physical import resample
    from utils.metrics.reading import NotADance, read_recording

    if not path.is_file():
        raise FileNotFoundError(f"dance.opening: there is no motion {path}; check the path and the spelling")
    memory = networks.memory
    try:
        recording = read_recording(path)
    except NotADance as reason:
        raise ValueError(f"dance.opening: {path} is no motion: {reason.why}") from None
    motion = recording.dance
    for remark in recording.findings.remarks:
        log.warning("dance.opening: %s: %s", path, remark)
    codes = memory.encode_dance(resample(motion.joints, motion.fps, memory.skeleton.fps))
    return Codes(codes.upper[:number], codes.lower[:number])


def locked_codes(config: DanceConfig, networks: Networks) -> Codes | None:
    """The codes that the halves are given, (n,) each, `FREE` where the GPT chooses; None if there are none.

    Raises:
        FileNotFoundError: if a file of codes is missing.
        ValueError: if it holds none, or a code is not in its codebook.
    """
    halves = []
    given = {"dance.lock_upper": config.lock_upper, "dance.lock_lower": config.lock_lower}
    for half, (key, lock) in enumerate(given.items()):
        codes = _codes_of(Path(lock), key)[:, half] if isinstance(lock, str) else np.array(lock or (), int)
        halves.append(_checked(codes, networks.memory.num_codes[half], key, FREE))
    length = max(map(len, halves))
    upper, lower = (torch.cat([h, torch.full((length - len(h),), FREE)]) for h in halves)
    return Codes(upper, lower) if length else None


def _codes_of(path: Path, key: str) -> np.ndarray:
    """Codes (T', 2) of a .npz."""
    if not path.is_file():
        raise FileNotFoundError(f"{key}: there is no file {path}; --dance and --eval write such files")
    try:
        return load_codes(path)
    except ValueError as error:
        raise ValueError(f"{key}: {path}: {error}; expected a .npz of a dance") from None


def _checked(codes: Sequence[int] | np.ndarray, most: int, key: str, least: int = 0) -> torch.Tensor:
    """Codes (n,) int64, all in a codebook of `most`."""
    found = torch.as_tensor(np.asarray(codes, np.int64))
    wrong = found[(found < least) | (found >= most)]
    if len(wrong):
        also = f", or {FREE} where it is free" if least < 0 else ""
        raise ValueError(f"{key}: code {int(wrong[0])} is not in the codebook, 0..{most - 1}{also}")
    return found
