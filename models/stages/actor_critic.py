"""Stage 4: actor-critic finetuning of the motion GPT on its target songs. Bailando (CVPR 2022), section 3.5.

As in the paper it trains on the songs it is judged by: no dances of them are seen, but the songs are.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from datasets.clips import epoch_batches
from datasets.rollouts import Windows, cut_windows
from models.actor_critic import (
    ActorCritic,
    ValueConfig,
    divergence,
    first_steps,
    normalise,
    policy_entropy,
    policy_loss,
    td_error,
    value_loss,
)
from models.generation import GenerationConfig, generate_all
from models.gpt import MotionGPT, code_losses
from models.official import is_published, load_either
from models.reward import RewardConfig, reward
from models.stages.base import RunConfig, Stage, load_memory
from models.stages.choice import Choice, ChoiceConfig, surprise
from models.stages.evaluation import Evaluation
from models.stages.motion_gpt import check_features, check_rate
from models.stages.pieces import Piece, pieces
from models.vqvae import ChoreographicMemory, Codes
from utils import distributed
from utils.checkpoint import load_weights
from utils.config import config

log = logging.getLogger(__name__)


@config
class ActorCriticConfig(RunConfig):
    """Config of stage actor_critic.

    Attributes:
        vqvae: checkpoint of stage sep_vqvae_root.
        gpt: checkpoint of stage motion_gpt, or a published one. A published actor-critic one, or a published
            GPT where there is no run of this stage's own, is what --eval judges if `checkpoint` is null.
        songs: the split whose songs are danced to while finetuning; `test` as in the paper. Of data that
            holds songs only, all of them are.
        value: sizes of the value stack.
        reward: what a dance earns.
        advantage: what weighs an action: the `td_error` as it is, as released (nearly every action earns -5,
            so before the value has learnt, good ones are unlearnt too), or `normalised` over the batch.
        anchor: weight of the policy's divergence from the pretrained GPT, in nats per code; 0 as released.
        choice: which epoch's weights count.
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
    anchor: NonNegativeFloat = 0.0
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    discount: PositiveFloat = 1.0
    turn: PositiveInt = 5
    generation: GenerationConfig = field(default_factory=GenerationConfig)


Danced = tuple[Windows, dict[str, Tensor]]  # windows of a dance; reward (N, S - 2) of actions, and its parts


def mean_earned(dances: list[Danced]) -> dict[str, float]:
    """Mean reward of the actions that count, and its parts."""
    counted = torch.cat([windows.mask for windows, _ in dances])
    return {
        name: float((torch.cat([parts[name] for _, parts in dances]) * counted).sum() / counted.sum())
        for name in dances[0][1]
    }


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
    judged: str | None = None  # what a published file is, where --eval judges that instead of a run

    def __init__(self, config: ActorCriticConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self._memory = load_memory(Path(config.vqvae), config.made_by(Path(config.vqvae)), velocity=True).to(
            device
        )
        check_rate(self.data.music_fps, self.data.fps, self._memory.frames_per_code, config.data.root)
        self.model = ActorCritic(self.pretrained_gpt(), config.value).to(device)
        self.before = self.pretrained_gpt().requires_grad_(False)
        self.learner = self.model
        self.choice = Choice(config.choice)
        self._epoch = 0
        self._dances: list[Danced] | None = None  # of the weights as they stand, where they are at hand
        self._epoch_logs: dict[str, float] = {}

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
        content = load_either(path, self.config.made_by(path), ("motion_gpt", self.name))
        check_features(content["architecture"], self.data.feature_version, path, self.config.data.root)
        finetuned = content["stage"] == self.name
        gpt: MotionGPT | ActorCritic
        gpt = (ActorCritic if finetuned else MotionGPT).from_architecture(content["architecture"], str(path))
        load_weights(gpt, content["model"], path)
        gpt = gpt.gpt if isinstance(gpt, ActorCritic) else gpt
        if gpt.num_codes != self._memory.num_codes:
            raise ValueError(
                f"{path} knows {gpt.num_codes} codes (upper, lower), the memory {self.config.vqvae} has "
                f"{self._memory.num_codes}; they must be of one training"
            )
        return gpt.to(self.device).eval()

    @torch.no_grad()
    def rollouts(self, split: str) -> list[Danced]:
        """Windows of the policy's dances to every whole song of a split, and what each action earns."""
        assert isinstance(self.model, ActorCritic)
        found = pieces(self.data, split, self._memory, self.config.generation.first_codes, self.device)
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
        if self._dances is None:
            self._dances = self.rollouts(self.config.songs)
        dances, self._dances, self._epoch = self._dances, None, epoch
        if epoch == 1 and self.config.choice.by == "reward":
            self._judge(0, dances)
        self._epoch_logs = mean_earned(dances)
        return Rollouts(dances, self.config, epoch)

    def _judge(self, epoch: int, dances: list[Danced]) -> None:
        """Takes note of how well the weights of an epoch dance; `dances` are theirs to the training songs."""
        if self.config.choice.songs not in (None, self.config.songs):
            dances = self.rollouts(self.config.choice.songs)
        assert isinstance(self.model, ActorCritic)
        windows, earned = [windows for windows, _ in dances], mean_earned(dances)["reward"]
        surprised = surprise(self.before, windows, self.device, self.config.training.batch_size)
        self.choice.judge(epoch, earned, surprised, self.model)
        self._epoch_logs |= {"judged_reward": earned, "surprise": surprised, "best_epoch": self.choice.epoch}

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
        logs = {"policy_loss": loss, "entropy": entropy, "td_error": error.mean()}
        with torch.set_grad_enabled(self.config.anchor > 0):
            with torch.no_grad():
                anchor = self.before.head(first_steps(features, actions.upper.shape[1]))
            departed = divergence(logits, anchor)
            logs["divergence"] = departed.mean()
        return loss + self.config.anchor * departed.mean() if self.config.anchor else loss, logs

    def epoch_logs(self) -> Mapping[str, float]:
        """Mean reward of the epoch's dances, and its parts, over the actions that count."""
        if self.config.choice.by == "reward":
            self._dances = self.rollouts(self.config.songs)
            self._judge(self._epoch, self._dances)
        return self._epoch_logs

    @property
    def finished(self) -> bool:
        """Whether the config's patience is at an end."""
        return self.choice.finished

    def checkpoint(self) -> dict[str, Any]:
        """With the weights of the best epoch so far, where epochs are chosen."""
        chosen = {"choice": self.choice.state()} if self.config.choice.by == "reward" else {}
        return {**super().checkpoint(), **chosen}

    def restore(self, content: Mapping[str, Any]) -> None:
        """The best epoch so far, as a checkpoint had it."""
        if "choice" in content:
            self.choice.restore(content["choice"])

    def load(self) -> int:
        """The published file that `gpt` names, or the config's checkpoint: its best epoch, if chosen."""
        published = self.load_published()
        if published is not None:
            return published
        path = self.config.checkpoint_path
        content = load_either(path, self.config.made_by(path), (self.name,))
        self.check_architecture(content["architecture"], path)
        chosen = content.get("choice")
        load_weights(self.model, chosen["weights"] if chosen else content["model"], path)
        self.model.eval()
        if chosen:
            log.info("%s: epoch %d of %d is the best", path, chosen["epoch"], content["epoch"])
        return int(content["epoch"])

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Dances to the test songs, before and after finetuning."""
        assert isinstance(self.model, ActorCritic)
        evaluation = Evaluation(self.data, self.config.evaluation, self.memory, self.config.seed)
        rows = {
            "random codes": evaluation.random_codes(),
            "memory": evaluation.reconstructions(),
        }
        if self.judged is None:
            rows["GPT"] = evaluation.generated(self.pretrained_gpt(), self.config.generation)
        shown = self.judged or "actor-critic"
        rows[shown] = evaluation.generated(self.model.gpt, self.config.generation)
        seen = None if shown == "GPT" else self.config.songs
        return evaluation.report(folder, rows, shown=shown, title=self.config.name, rl_split=seen)

    def load_published(self) -> int | None:
        """Puts the published file that `gpt` names into the model, if that is what counts (see the config).

        Returns:
            Its epoch; None if the config's checkpoint counts.
        """
        path, own = Path(self.config.gpt), self.config.checkpoint_path
        if self.config.checkpoint is None and is_published(path):
            content = load_either(path, self.config.made_by(path), ("motion_gpt", self.name))
            finetuned = content["stage"] == self.name
            if finetuned or not own.is_file():
                if finetuned:
                    model = ActorCritic.from_architecture(content["architecture"], str(path))
                    load_weights(model, content["model"], path)
                    self.model = self.learner = model.to(self.device).eval()
                self.judged = "actor-critic" if finetuned else "GPT"
                log.info("%s is evaluated as the %s", path, self.judged)
                return int(content["epoch"])
        return None

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:
        """Raises ValueError unless the checkpoint heard the features that the data holds."""
        check_features(architecture, self.data.feature_version, path, self.config.data.root)

    def architecture(self) -> dict[str, Any]:
        """The model's, and which features it hears."""
        assert isinstance(self.model, ActorCritic)
        return {**self.model.architecture(), "music": self.data.feature_version}


class Rollouts:
    """The batches of one epoch: windows in a random order, policy and value in turn."""

    def __init__(self, dances: list[Danced], config: ActorCriticConfig, epoch: int) -> None:
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
