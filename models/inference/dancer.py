"""Who dances in --dance, and how: the config's section, the weights, and what is given before it starts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from datasets.sequences import NUM_FEATURES
from models.checkpoints import load_memory, load_run_policy
from models.generation import FREE, GenerationConfig
from models.gpt import MotionGPT
from models.stages.base import RunConfig
from models.vqvae import ChoreographicMemory, Codes
from utils.config import ConfigModel


class DanceConfig(ConfigModel):
    """What --dance does with a song."""

    start: Literal["first", "beat"] = "first"
    """The dance begins with the song's `first` moment, or it stands still until the first `beat`: it sets out
    on the code in which that falls."""
    opening: str | tuple[tuple[NonNegativeInt, NonNegativeInt], ...] | None = None
    """What a dance starts from: code pairs [[upper, lower], ...]; or a file of a motion (joints or SMPL
    parameters, as `python -m utils.metrics` reads it), which the memory encodes; null is
    generation.first_codes."""
    opening_codes: PositiveInt = 8
    """How many codes of such a file."""
    lock_upper: str | tuple[int, ...] | None = None
    """Codes that the upper half must have, counted from the song's start: a list, or a .npz whose `codes`
    hold them; -1, and all beyond the end, is left to the GPT. null locks nothing."""
    lock_lower: str | tuple[int, ...] | None = None
    """The same of the lower half."""
    variants: PositiveInt = 1
    """Dances to each song; more than one needs generation.temperature above 0."""
    video: bool = True
    """Whether an mp4 with the song is made."""
    player: bool = True
    """Whether a web page is made on which it is danced."""
    bvh: bool = True
    """Whether rotations are fitted and written as BVH."""
    glb: bool = True
    """The same, as glTF."""
    smpl: bool = True
    """The same, as SMPL parameters."""
    level: bool = True
    """Whether the slow drift of height, which integrated velocity gathers, is taken out."""
    ground: bool = True
    """Whether heights count from the ground, on which the dancer stands, in all files; if not, the pelvis
    starts at height 0."""
    footlock: bool = False
    """Whether planted feet are held in place, everywhere but in the .npz."""
    video_height: Annotated[int, Field(ge=64)] = 540
    """In pixels."""


class DancingConfig(RunConfig):
    """What the config of a stage with a motion GPT has."""

    vqvae: str
    """Checkpoint of stage sep_vqvae_root."""
    generation: GenerationConfig = GenerationConfig()
    """How codes are composed."""
    dance: DanceConfig = DanceConfig()
    """See DanceConfig."""

    @property
    def other_gpt(self) -> Path | None:
        """A file that counts instead of the run's own checkpoint if it is a published one."""
        return None


class Dancer(NamedTuple):
    """A memory and a GPT that fit each other.

    Attributes:
        memory: with its velocity branch, frozen.
        gpt: in eval mode.
        features: the version of the music features it hears.
        facts: what it is made from: files, their SHA-256, stage and epoch.
    """

    memory: ChoreographicMemory
    gpt: MotionGPT
    features: Literal["standard", "compat"]
    facts: dict[str, str | int | float]

    @property
    def codes_per_second(self) -> float:
        """How many codes, and so steps of music, a second has."""
        return self.memory.skeleton.fps / self.memory.frames_per_code


def load_dancer(config: DancingConfig, device: torch.device) -> Dancer:
    """The dancer of a config; no prepared data is needed.

    The weights are those that --eval judges: the config's checkpoint, at its best epoch if epochs were
    chosen, or the published file that the key `gpt` names.

    Raises:
        FileNotFoundError: naming the command that makes what is missing.
        ValueError: if memory and GPT do not fit each other, or the music features.
    """
    vqvae = Path(config.vqvae)
    memory = load_memory(vqvae, config.made_by(vqvae), velocity=True).to(device)
    policy = load_run_policy(config)
    path, features = policy.path, policy.architecture["music"]
    gpt = policy.gpt.to(device).eval().requires_grad_(False)
    if gpt.num_codes != memory.num_codes:
        raise ValueError(
            f"{path} knows {gpt.num_codes} codes (upper, lower), the memory {vqvae} has {memory.num_codes}; "
            "they must be of one training"
        )
    if gpt.music_channels != NUM_FEATURES:
        raise ValueError(
            f"{path} hears {gpt.music_channels} music features; of a song {NUM_FEATURES} can be made"
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
    return Dancer(memory, gpt, features, facts)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def opening_codes(config: DancingConfig, dancer: Dancer) -> Codes:
    """The codes (n,) each that dances start from.

    Raises:
        FileNotFoundError: if the file of a motion is missing.
        ValueError: if it holds none, or a code is not in its codebook.
    """
    given = config.dance.opening
    if isinstance(given, str):
        return _encoded(Path(given), dancer, config.dance.opening_codes)
    pairs = (config.generation.first_codes,) if given is None else given
    key = "generation.first_codes" if given is None else "dance.opening"
    if not pairs:
        raise ValueError("dance.opening holds no codes; give [[upper, lower], ...], a file, or null")
    halves = zip(*pairs, strict=True)
    upper, lower = (
        _checked(half, most, key) for half, most in zip(halves, dancer.memory.num_codes, strict=True)
    )
    return Codes(upper, lower)


def _encoded(path: Path, dancer: Dancer, number: int) -> Codes:
    """The first codes of a motion, encoded as a whole, as those of a real dance are."""
    from utils.metrics.physical import resample
    from utils.metrics.reading import NotADance, read_dance

    if not path.is_file():
        raise FileNotFoundError(f"dance.opening: there is no motion {path}; check the path and the spelling")
    memory = dancer.memory
    try:
        motion = read_dance(path)
    except NotADance as reason:
        raise ValueError(f"dance.opening: {path} is no motion: {reason.why}") from None
    codes = memory.encode_dance(resample(motion.joints, motion.fps, memory.skeleton.fps))
    return Codes(codes.upper[:number], codes.lower[:number])


def locked_codes(config: DanceConfig, dancer: Dancer) -> Codes | None:
    """What the halves must have, (n,) each, `FREE` where the GPT chooses; None if nothing is locked.

    Raises:
        FileNotFoundError: if a file of codes is missing.
        ValueError: if it holds none, or a code is not in its codebook.
    """
    halves = []
    given = {"dance.lock_upper": config.lock_upper, "dance.lock_lower": config.lock_lower}
    for half, (key, lock) in enumerate(given.items()):
        codes: Sequence[int] = _codes_of(Path(lock), key)[:, half] if isinstance(lock, str) else lock or ()
        halves.append(_checked(codes, dancer.memory.num_codes[half], key, FREE))
    length = max(map(len, halves))
    upper, lower = (torch.cat([h, torch.full((length - len(h),), FREE)]) for h in halves)
    return Codes(upper, lower) if length else None


def _codes_of(path: Path, key: str) -> np.ndarray:
    """Codes (T', 2) of a .npz."""
    if not path.is_file():
        raise FileNotFoundError(f"{key}: there is no file {path}; --dance and --eval write such files")
    try:
        with np.load(path, allow_pickle=False) as file:
            codes = np.asarray(file["codes"])
    except (KeyError, ValueError, OSError, EOFError, TypeError) as error:
        raise ValueError(f"{key}: {path} holds no `codes` ({error}); expected a .npz of a dance") from None
    if codes.ndim != 2 or codes.shape[1] != 2 or codes.dtype.kind not in "iu":
        raise ValueError(f"{key}: codes of {path} must be (T', 2) integers, got {codes.dtype} {codes.shape}")
    return codes


def _checked(codes: Sequence[int] | np.ndarray, most: int, key: str, least: int = 0) -> torch.Tensor:
    """Codes (n,) int64, all in a codebook of `most`."""
    found = torch.as_tensor(np.asarray(codes, np.int64))
    wrong = found[(found < least) | (found >= most)]
    if len(wrong):
        also = f", or {FREE} where it is free" if least < 0 else ""
        raise ValueError(f"{key}: code {int(wrong[0])} is not in the codebook, 0..{most - 1}{also}")
    return found
