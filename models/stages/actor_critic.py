"""Stage 4: actor-critic finetuning of the motion GPT on its target songs. Bailando (CVPR 2022), section 3.5.

As in the paper it trains on the songs it is judged by: no dances of them are seen, but the songs are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from datasets.clips import epoch_batches
from datasets.rollouts import Windows, cut_windows
from models.actor_critic import (
    ActorCritic,
    ValueConfig,
    first_steps,
    normalise,
    policy_entropy,
    policy_loss,
    td_error,
    value_loss,
)
from models.generation import GenerationConfig, generate_all
from models.gpt import MotionGPT, code_losses
from models.reward import RewardConfig, reward
from models.stages.base import RunConfig, Stage, load_memory
from models.stages.evaluation import Evaluation
from models.stages.motion_gpt import check_features, check_rate
from models.stages.pieces import Piece, pieces
from models.vqvae import ChoreographicMemory, Codes
from utils import distributed
from utils.checkpoint import load_checkpoint, load_weights
from utils.config import config


@config
class ActorCriticConfig(RunConfig):
    """Config of stage actor_critic.

    Attributes:
        vqvae: checkpoint of stage sep_vqvae_root.
        gpt: checkpoint of stage motion_gpt.
        songs: the split whose songs are danced to while finetuning; `test` as in the paper. Of data that
            holds songs only, all of them are.
        value: sizes of the value stack.
        reward: what a dance earns.
        advantage: what weighs an action: the `td_error` as it is, as released (nearly every action earns -5,
            so before the value has learnt, good ones are unlearnt too), or `normalised` over the batch.
        discount: of the next state's value.
        turn: batches of policy steps before as many of value steps, and so on.
        generation: how codes are composed.
    """

    vqvae: str
    gpt: str
    songs: str = "test"
    value: ValueConfig = field(default_factory=ValueConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    advantage: Literal["td_error", "normalised"] = "td_error"
    discount: PositiveFloat = 1.0
    turn: PositiveInt = 5
    generation: GenerationConfig = field(default_factory=GenerationConfig)


class Rollout(NamedTuple):
    """A batch of windows, the reward (B, S - 2) of their actions, and whose turn it is."""

    windows: Windows
    reward: Tensor
    policy_turn: bool


class ActorCriticStage(Stage):
    """Finetunes the GPT's head by what its own dances earn; the base stays as it is."""

    name = "actor_critic"
    Config = ActorCriticConfig
    config: ActorCriticConfig

    def __init__(self, config: ActorCriticConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self._memory = load_memory(Path(config.vqvae), config.made_by(Path(config.vqvae)), velocity=True).to(
            device
        )
        check_rate(self.data.music_fps, self.data.fps, self._memory.frames_per_code, config.data.root)
        self.model = ActorCritic(self.pretrained_gpt(), config.value).to(device)
        self.learner = self.model
        self._epoch_logs: Mapping[str, float] = {}

    @property
    def memory(self) -> ChoreographicMemory:
        """The frozen memory."""
        return self._memory

    def pretrained_gpt(self) -> MotionGPT:
        """The GPT that finetuning starts from.

        Raises:
            ValueError: if it does not fit the memory or the data's music features.
        """
        path = Path(self.config.gpt)
        content = load_checkpoint(path, self.config.made_by(path), ("motion_gpt",))
        check_features(content["architecture"], self.data.feature_version, path, self.config.data.root)
        gpt = MotionGPT.from_architecture(content["architecture"], str(path))
        load_weights(gpt, content["model"], path)
        if gpt.num_codes != self._memory.num_codes:
            raise ValueError(
                f"{path} knows {gpt.num_codes} codes (upper, lower), the memory {self.config.vqvae} has "
                f"{self._memory.num_codes}; they must be of one training"
            )
        return gpt.to(self.device).eval()

    @torch.no_grad()
    def rollouts(self) -> list[tuple[Windows, dict[str, Tensor]]]:
        """Windows of the policy's dances to every whole target song, and what each action earns."""
        assert isinstance(self.model, ActorCritic)
        found = pieces(
            self.data, self.config.songs, self._memory, self.config.generation.first_codes, self.device
        )
        gpt = self.model.gpt.eval()
        music, first = [piece.music for piece in found], [piece.first for piece in found]
        how, names = self.config.generation, [piece.name for piece in found]
        codes = generate_all(gpt, music, first, how, self.device, progress=True, keys=names)
        steps, per_code = gpt.config.context + 1, self._memory.frames_per_code
        dances = []
        for dance, piece in zip(codes, found, strict=True):
            windows = cut_windows(dance, piece.music, piece.beats, steps, per_code)
            dances.append((windows, self._earned(dance, piece, windows)))
        return dances

    def _earned(self, dance: Codes, piece: Piece, windows: Windows) -> dict[str, Tensor]:
        """The reward (N, S - 2) of each window's actions, and its parts."""
        per_code, rules = self._memory.frames_per_code, self.config.reward
        if rules.context == "dance":
            frames = len(dance.upper) * per_code
            beats = torch.cat([piece.beats, piece.beats[-1:].expand(frames)])[:frames]
            pose = self._memory.decode(Codes(*(half.unsqueeze(0).to(self.device) for half in dance)))
            whole = reward(pose, beats.unsqueeze(0).to(self.device), per_code, rules)
            steps = windows.upper.shape[1]
            return {name: part[0].unfold(0, steps, 1)[:, 1:-1].cpu() for name, part in whole.items()}
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(windows.upper), self.config.training.batch_size):
            batch = slice(start, start + self.config.training.batch_size)
            upper, lower, beats = windows.upper[batch], windows.lower[batch], windows.beats[batch]
            pose = self._memory.decode(Codes(upper[:, 1:-1].to(self.device), lower[:, 1:-1].to(self.device)))
            parts.append(reward(pose, beats[:, per_code:-per_code].to(self.device), per_code, rules))
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}

    def batches(self, epoch: int) -> "Rollouts":
        """Windows of this epoch's dances: `turn` batches for the policy, as many for the value, and so on."""
        dances = self.rollouts()
        counted = torch.cat([windows.mask for windows, _ in dances])
        self._epoch_logs = {
            name: float((torch.cat([parts[name] for _, parts in dances]) * counted).sum() / counted.sum())
            for name in dances[0][1]
        }
        return Rollouts(dances, self.config, epoch)

    def loss(self, learner: nn.Module, batch: Rollout) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The policy's or the value's loss; the base's output serves both, as its mask is causal."""
        assert isinstance(self.model, ActorCritic)
        upper, lower, music, _, mask = (x.to(self.device, non_blocking=True) for x in batch.windows)
        earned = batch.reward.to(self.device, non_blocking=True)
        actions = Codes(upper[:, 1:-1], lower[:, 1:-1])
        with torch.no_grad():
            features = self.model.gpt.base(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))
        if not batch.policy_turn:
            loss = value_loss(td_error(earned, learner(features, "values"), self.config.discount))
            return loss, {"value_loss": loss}
        with torch.no_grad():
            error = td_error(earned, self.model.values(features), self.config.discount)
        if self.config.advantage == "normalised":
            error = normalise(error, mask)
        logits = learner(first_steps(features, actions.upper.shape[1]), "policy")
        loss_upper, loss_lower = code_losses(logits, actions)
        weight = distributed.mean_over_processes(mask.sum())
        loss = policy_loss(loss_upper + loss_lower, error, mask, weight)
        entropy = (policy_entropy(logits) * mask).sum() / mask.sum()
        return loss, {"policy_loss": loss, "entropy": entropy, "td_error": error.mean()}

    def epoch_logs(self) -> Mapping[str, float]:
        """Mean reward of the epoch's dances, and its parts, over the actions that count."""
        return self._epoch_logs

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Dances to the test songs, before and after finetuning."""
        assert isinstance(self.model, ActorCritic)
        evaluation = Evaluation(self.data, self.config.evaluation, self.memory, self.config.seed)
        rows = {
            "random codes": evaluation.random_codes(),
            "memory": evaluation.reconstructions(),
            "GPT": evaluation.generated(self.pretrained_gpt(), self.config.generation),
            "actor-critic": evaluation.generated(self.model.gpt, self.config.generation),
        }
        return evaluation.report(folder, rows, shown="actor-critic", title=self.config.name)

    def architecture(self) -> dict[str, Any]:
        """The model's, and which features it hears."""
        assert isinstance(self.model, ActorCritic)
        return {**self.model.architecture(), "music": self.data.feature_version}


class Rollouts:
    """The batches of one epoch: windows in a random order, policy and value in turn."""

    def __init__(
        self, dances: list[tuple[Windows, dict[str, Tensor]]], config: ActorCriticConfig, epoch: int
    ) -> None:
        self.dances, self.turn = dances, config.turn
        places = [(d, w) for d, (windows, _) in enumerate(dances) for w in range(len(windows.upper))]
        clips, size = config.data.clips, config.training.batch_size
        batches = epoch_batches(len(places), size, clips.order, config.seed, epoch)
        self.batches = [[places[i] for i in distributed.share(batch)] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Rollout]:
        for number, places in enumerate(self.batches):
            windows = zip(*(tuple(field[w] for field in self.dances[d][0]) for d, w in places), strict=True)
            earned = torch.stack([self.dances[d][1]["reward"][w] for d, w in places])
            policy_turn = number // self.turn % 2 == 0
            yield Rollout(Windows(*(torch.stack(field) for field in windows)), earned, policy_turn)
