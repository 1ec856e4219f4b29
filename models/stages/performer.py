"""The policy's dances to whole songs, their windows and what each action earns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.rollouts import Windows, cut_windows
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import MotionGPT
from models.reward import RewardConfig, reward
from models.stages.pieces import Piece
from models.stages.rollouts import Composed, Dance
from models.vqvae import ChoreographicMemory, Codes
from utils.training import distributed


class Performer:
    """Dances to songs with a policy, and judges every step.

    Attributes:
        memory: the frozen memory, with its velocity branch.
        how: how codes are composed.
        rules: what a dance earns.
        batch_size: windows decoded at a time, where each is judged by itself.
        steps: codes in a window.
        device: where it happens.
    """

    def __init__(
        self,
        memory: ChoreographicMemory,
        how: GenerationConfig,
        rules: RewardConfig,
        batch_size: int,
        steps: int,
        device: torch.device,
    ) -> None:
        self.memory, self.how, self.rules = memory, how, rules
        self.batch_size, self.steps, self.device = batch_size, steps, device

    @torch.no_grad()
    def compose(self, gpt: MotionGPT, found: Sequence[Piece]) -> list[Composed]:
        """The policy's dances to whole songs, and what each action earns.

        Each process composes its share of the songs; all have all dances.
        """
        mine = distributed.own_share(len(found))
        made: list[Composed] = []
        if mine:
            share = [found[i] for i in mine]
            prompts = [Prompt(piece.music, piece.first, piece.name) for piece in share]
            codes = generate(gpt.eval(), prompts, self.how, self.device, progress=True)
            for i, dance, piece in zip(mine, codes, share, strict=True):
                made.append(Composed(i, dance, self._earned(dance, piece)))
        return distributed.gather_shares(made)

    def danced(self, composed: Sequence[Composed], found: Sequence[Piece]) -> list[Dance]:
        """The dances cut into windows, with what was earned."""
        return [(self._windows(d.codes, found[d.piece]), dict(d.earned)) for d in composed]

    def _windows(self, dance: Codes, piece: Piece) -> Windows:
        return cut_windows(dance, piece.music, piece.beats, self.steps, self.memory.frames_per_code)

    def _earned(self, dance: Codes, piece: Piece) -> dict[str, Tensor]:
        """The reward (N, S - 2) of each window's actions, and its parts."""
        per_code, windows = self.memory.frames_per_code, self._windows(dance, piece)
        if self.rules.context == "dance":
            frames = len(dance.upper) * per_code
            beats = torch.cat([piece.beats, piece.beats[-1:].expand(frames)])[:frames]
            whole = self._reward(Codes(*(half.unsqueeze(0) for half in dance)), beats.unsqueeze(0))
            return {name: part[0].unfold(0, self.steps, 1)[:, 1:-1].cpu() for name, part in whole.items()}
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(windows.upper), self.batch_size):
            batch = slice(start, start + self.batch_size)
            codes = Codes(windows.upper[batch, 1:-1], windows.lower[batch, 1:-1])
            parts.append(self._reward(codes, windows.beats[batch, per_code:-per_code]))
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}

    def _reward(self, codes: Codes, beats: Tensor) -> dict[str, Tensor]:
        pose = self.memory.decode(Codes(codes.upper.to(self.device), codes.lower.to(self.device)))
        return reward(pose, beats.to(self.device), self.memory.frames_per_code, self.rules)
