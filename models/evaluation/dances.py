"""Dances to judge: real ones, the memory's reconstructions, its dances of random codes, and the GPT's.

Several processes make a share of the dances each, and all have all of them. Every process must ask for the
same dances in the same order.
"""

from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from datasets.clips import usable_frames
from datasets.sequences import PreparedData
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import MotionGPT
from models.stages.pieces import pieces
from models.vqvae import ChoreographicMemory, Codes
from utils.config import ConfigModel
from utils.training import distributed


class EvaluationConfig(ConfigModel):
    """How a stage is judged."""

    split: Literal["train", "test", "all"] = "test"
    """Whose dances and songs."""
    protocol: Literal["bailando", "corrected", "both"] = "bailando"
    """Of the metrics: `bailando` compares with published numbers, `corrected` mends their slips; `both` adds
    the tables and files of the second, in a folder of that name."""
    length: Literal["dance", "song"] = "dance"
    """Of generated dances: that of the real `dance`, or of the whole `song`, as released."""
    max_frames: PositiveInt = 1200
    """Generated dances are cut to this for the metrics, as published."""
    plots: bool = True
    """Whether pictures of beats, features and beat scores are drawn."""
    videos: NonNegativeInt = 4
    """How many dances are rendered."""
    video_height: PositiveInt = 540
    """In pixels."""
    players: NonNegativeInt = 40
    """How many dances get a web page, beside the real ones; with the first comes an index."""


class MadeDance(NamedTuple):
    """A dance as joints (T, 24, 3), metres, and the codes (T', 2), upper and lower, it was decoded from."""

    name: str
    song: str
    joints: np.ndarray
    codes: np.ndarray


class DanceMaker:
    """Makes dances of a split, each under the name of its real one.

    Args:
        data: prepared data; it may hold songs only.
        split: whose dances and songs.
        length: of generated dances: that of the real `dance`, or of the whole `song`.
        memory: decodes.
        seed: of the random codes.

    Raises:
        ValueError: if the split has no dances though the data has.
    """

    def __init__(
        self, data: PreparedData, split: str, length: str, memory: ChoreographicMemory, seed: int
    ) -> None:
        self.data, self.split, self.length = data, split, length
        self.memory, self.seed = memory.eval(), seed
        self.sequences = [data.sequence(name) for name in data.names(split)]
        self.only_songs = not data.names("all")
        if not self.sequences and not self.only_songs:
            raise ValueError(f"{data.root} has no sequences of split {split!r} to evaluate")
        self.device = next(memory.parameters()).device

    @cached_property
    def real(self) -> list[MadeDance]:
        """The real dances, as far as their songs go, and their codes."""
        dances = []
        for sequence in self.sequences:
            joints = np.array(sequence.joints[: usable_frames(sequence)], dtype=np.float32)
            codes = torch.stack(self.memory.encode_dance(joints), dim=1).numpy()
            dances.append(MadeDance(sequence.name, sequence.song, joints, codes))
        return dances

    def decode(self, codes: np.ndarray, root: Tensor | None = None) -> np.ndarray:
        """Joints (T, 24, 3) of codes (T', 2); the root from the velocity branch, or as given (T, 3)."""
        upper, lower = torch.from_numpy(codes).T
        return self.memory.decode_dance(Codes(upper, lower), root).numpy()

    def reconstructions(self, real_root: bool = False) -> list[MadeDance]:
        """The real dances through the memory, at their own length."""
        dances = []
        for real in (self.real[i] for i in distributed.own_share(len(self.real))):
            frames = len(real.joints)
            root = None
            if real_root:
                root = torch.from_numpy(real.joints[:, 0])
                root = torch.cat(
                    [root, root[-1:].expand(len(real.codes) * self.memory.frames_per_code - frames, 3)]
                )
            dances.append(real._replace(joints=self.decode(real.codes, root)[:frames]))
        return distributed.gather_shares(dances)

    def random_codes(self) -> list[MadeDance]:
        """Dances of uniformly random codes, as long as the real ones: what the memory does by itself."""
        generator = np.random.default_rng(self.seed)
        drawn = [
            np.stack([generator.integers(k, size=len(real.codes)) for k in self.memory.num_codes], axis=1)
            for real in self.real
        ]
        dances = []
        for i in distributed.own_share(len(drawn)):
            real, codes = self.real[i], drawn[i]
            dances.append(real._replace(joints=self.decode(codes)[: len(real.joints)], codes=codes))
        return distributed.gather_shares(dances)

    def generated(self, gpt: MotionGPT, how: GenerationConfig) -> list[MadeDance]:
        """The GPT's dances to the split's songs, each from its real dance's first codes where it has one."""
        found = pieces(self.data, self.split, self.memory, how.first_codes)
        found = [found[i] for i in distributed.own_share(len(found))]
        if not found:  # more processes than songs
            return distributed.gather_shares([])
        whole = self.length == "song"
        music = [p.music if whole or not p.frames else p.music[: len(p.codes.upper)] for p in found]
        prompts = [Prompt(song, p.first, p.name) for song, p in zip(music, found, strict=True)]
        codes = generate(gpt.eval(), prompts, how, self.device, progress=distributed.is_main())
        dances = []
        for piece, dance in zip(found, codes, strict=True):
            both = torch.stack([dance.upper, dance.lower], dim=1).numpy()
            frames = len(both) * self.memory.frames_per_code if whole or not piece.frames else piece.frames
            dances.append(MadeDance(piece.name, piece.song, self.decode(both)[:frames], both))
        return distributed.gather_shares(dances)
