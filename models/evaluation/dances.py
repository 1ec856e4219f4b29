"""Dances that are evaluated: real ones, reconstructions of the memory, random codes, and the GPT's.

Each of several processes makes a share of the dances, and all of them get all dances. Every process must ask
for the same dances in the same order.
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from datasets.clips import usable_frames, with_context
from datasets.sequences import PreparedData
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import MotionGPT
from models.stages.rollouts import target_songs
from models.vqvae import ChoreographicMemory, Codes
from utils.dance import Dance
from utils.training import distributed


class DanceMaker:
    """Makes the dances of a split, each under the name of its real one.

    Args:
        data: prepared data; it may hold songs only.
        split: the split.
        length: of generated dances: that of the real `dance`, or of the whole `song`.
        memory: encodes and decodes.
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
    def real(self) -> list[Dance]:
        """The real dances, cut to whole codes and to their songs, and their codes."""
        dances = []
        for sequence in self.sequences:
            joints = np.array(sequence.joints[: usable_frames(sequence)], dtype=np.float32)
            codes = torch.stack(self.memory.encode_dance(joints), dim=1).numpy()
            dances.append(self._dance(sequence.name, sequence.song, joints, codes))
        return dances

    def _dance(
        self,
        name: str,
        song: str,
        joints: np.ndarray,
        codes: np.ndarray,
        rotations: np.ndarray | None = None,
    ) -> Dance:
        """The record of a dance, with the beats of its song if they are known."""
        return Dance(
            name,
            joints,
            self._beats.get(song),
            self.data.fps,
            song,
            codes,
            frames_per_code=self.memory.frames_per_code,
            skeleton=self.data.skeleton,
            rotations=rotations,
        )

    @cached_property
    def _beats(self) -> dict[str, np.ndarray]:
        """Beat flags per frame of each song."""
        return {name: np.array(self.data.song(name).beats) for name in self.data.songs}

    def decode(
        self, codes: np.ndarray, frames: int, root: Tensor | None = None, rotations: bool = True
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Decode codes (T', 2) into the first frames of a dance.

        Args:
            codes: (T', 2).
            frames: T, at most T' * frames_per_code.
            root: (T' * frames_per_code, 3) metres; None integrates the velocity branch.
            rotations: whether the rotation decoders are used where the memory has them.

        Returns:
            Joints (T, 24, 3), and rotations (T, 24, 3, 3) if they are decoded.
        """
        upper, lower = torch.from_numpy(codes).T
        if not rotations:
            return self.memory.decode_dance(Codes(upper, lower), root).numpy()[:frames], None
        motion = self.memory.decode_motion(Codes(upper, lower), root)
        turns = None if motion.rotations is None else motion.rotations.numpy()[:frames]
        return motion.joints.numpy()[:frames], turns

    def reconstructions(self, real_root: bool = False, rotations: bool = True) -> list[Dance]:
        """The real dances, encoded and decoded, at their own length.

        Args:
            real_root: whether they have their own root.
            rotations: as of `decode`.
        """
        dances = []
        for real in (self.real[i] for i in distributed.own_share(len(self.real))):
            frames, codes = len(real.joints), real.codes
            assert codes is not None
            root = None
            if real_root:
                root = torch.from_numpy(real.joints[:, 0])
                padding = len(codes) * self.memory.frames_per_code - frames
                root = torch.cat([root, root[-1:].expand(padding, 3)])
            joints, turns = self.decode(codes, frames, root, rotations)
            dances.append(replace(real, joints=joints, rotations=turns))
        return distributed.gather_shares(dances)

    def random_codes(self) -> list[Dance]:
        """Dances of uniformly random codes, as long as the real ones: the level of chance for this memory."""
        generator = np.random.default_rng(self.seed)
        drawn = []
        for real in self.real:
            steps = -(-len(real.joints) // self.memory.frames_per_code)
            halves = [generator.integers(k, size=steps) for k in self.memory.num_codes]
            drawn.append(np.stack(halves, axis=1))
        dances = []
        for i in distributed.own_share(len(drawn)):
            real, codes = self.real[i], drawn[i]
            joints, turns = self.decode(codes, len(real.joints))
            dances.append(replace(real, joints=joints, codes=codes, rotations=turns))
        return distributed.gather_shares(dances)

    def generated(self, gpt: MotionGPT, how: GenerationConfig) -> list[Dance]:
        """The GPT's dances to the split's songs, each from its real dance's first codes if it has one."""
        found = target_songs(self.data, self.split, self.memory, how.first_codes)
        found = [found[i] for i in distributed.own_share(len(found))]
        if not found:  # more processes than songs
            return distributed.gather_shares([])
        whole = self.length == "song"
        steps = [len(p.music) if whole or not p.frames else len(p.codes.upper) for p in found]
        prompts = [
            Prompt(with_context(p.music, 0, min(n, len(p.music)), gpt.reach), p.first, p.name)
            for p, n in zip(found, steps, strict=True)
        ]
        codes = generate(gpt.eval(), prompts, how, self.device, progress=distributed.is_main())
        dances = []
        for piece, dance in zip(found, codes, strict=True):
            both = torch.stack([dance.upper, dance.lower], dim=1).numpy()
            frames = len(both) * self.memory.frames_per_code if whole or not piece.frames else piece.frames
            joints, turns = self.decode(both, frames)
            dances.append(self._dance(piece.name, piece.song, joints, both, turns))
        return distributed.gather_shares(dances)
