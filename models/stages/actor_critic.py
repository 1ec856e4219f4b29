"""Stage 4: actor-critic finetuning of the motion GPT on its target songs. Bailando (CVPR 2022), section 3.5.

As in the paper it trains on the songs it is judged by: no dances of them are seen, but the songs are.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.actor_critic import (
    ActorCritic,
    Moments,
    ValueConfig,
    first_steps,
    moments,
    normalise,
    td_error,
)
from models.checkpoints import ROWS, load_memory, load_policy, load_run_policy
from models.evaluation.finetuning import FILES, judge_songs, report
from models.gpt import MotionGPT
from models.reward import RewardConfig
from models.stages.base import GPTRunConfig, Stage, fingerprint_of_memory
from models.stages.changes import fingerprint
from models.stages.choice import Choice, ChoiceConfig, surprise
from models.stages.motion_gpt import check_features, check_rate
from models.stages.performer import Performer
from models.stages.pieces import Piece, pieces
from models.stages.rollouts import Composed, Dance, Rollout, Rollouts, mean_earned, split_rollout
from models.stages.turns import policy_turn, value_turn
from models.vqvae import ChoreographicMemory, Codes
from utils.training import distributed
from utils.training.checkpoint import load_weights

log = logging.getLogger(__name__)


class ActorCriticConfig(GPTRunConfig):
    """Config of stage actor_critic."""

    gpt: str
    """Checkpoint of stage motion_gpt, or a published one. A published actor-critic one, or a published GPT
    where there is no run of this stage's own, is what --eval judges if `checkpoint` is null."""
    songs: str = "test"
    """The split whose songs are danced to while finetuning; `test` as in the paper. Of data that holds songs
    only, all of them are."""
    value: ValueConfig = ValueConfig()
    """Sizes of the value stack."""
    reward: RewardConfig = RewardConfig()
    """What a dance earns."""
    advantage: Literal["td_error", "normalised"] = "td_error"
    """What weighs an action: the `td_error` as it is, as released (nearly every action earns -5, so before
    the value has learnt, good ones are unlearnt too), or `normalised` over the whole batch."""
    anchor: NonNegativeFloat = 0.0
    """Weight of the policy's divergence from the pretrained GPT, in nats per code; 0 as released."""
    choice: ChoiceConfig = ChoiceConfig()
    """Which epoch's weights count."""
    discount: PositiveFloat = 1.0
    """Of the next state's value."""
    turn: PositiveInt = 5
    """Batches of policy steps before as many of value steps, and so on."""

    @property
    def other_gpt(self) -> Path:
        """Counts if it is published."""
        return Path(self.gpt)


class ActorCriticStage(Stage):
    """Finetunes the GPT's head by what its own dances earn; the base stays as it is."""

    name = "actor_critic"
    Config = ActorCriticConfig
    config: ActorCriticConfig
    model: ActorCritic
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
        how = config.generation.model_copy(
            update={"compile": False}
        )  # weights that are compiled do not learn
        rules, batch, steps = config.reward, config.training.batch_size, self.model.gpt.config.context + 1
        self.performer = Performer(self._memory, how, rules, batch, steps, device)
        self.choice = Choice(config.choice)
        self._moments: Moments | None = None  # of the advantages of a batch that is computed in parts
        self._epoch = 0
        self._epoch_logs: dict[str, float] = {}
        self._composed: list[Composed] = []  # this epoch's dances
        self._restored: list[Composed] | None = None  # those of an epoch that was stopped within
        self._ahead: list[Composed] | None = None  # the next epoch's, where they were needed before

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
        policy = load_policy(path, self.config.made_by(path))
        check_features(policy.architecture, self.data.feature_version, path, self.config.data.root)
        gpt = policy.gpt
        if gpt.num_codes != self._memory.num_codes:
            raise ValueError(
                f"{path} knows {gpt.num_codes} codes (upper, lower), the memory {self.config.vqvae} has "
                f"{self._memory.num_codes}; they must be of one training"
            )
        return gpt.to(self.device).eval()

    def rollouts(self) -> list[Dance]:
        """Windows of this epoch's dances, and what each action earns."""
        if self._restored is not None:
            self._composed = self._restored
        elif self._ahead is not None:
            self._composed = self._ahead
        else:
            self._composed = self.performer.compose(self.model.gpt, self.pieces)
        self._restored = self._ahead = None
        return self.performer.danced(self._composed, self.pieces)

    @cached_property
    def pieces(self) -> list[Piece]:
        """The target songs, and where dances to them start."""
        return self._pieces(self.config.songs)

    def _pieces(self, split: str) -> list[Piece]:
        return pieces(self.data, split, self._memory, self.config.generation.first_codes)

    def epoch_state(self) -> Mapping[str, Any]:
        """The dances: they were composed with the weights of the epoch's start, which are gone."""
        return {"dances": [dance.plain() for dance in self._composed]}

    def restore_epoch(self, state: Mapping[str, Any]) -> None:
        """Goes on with these dances."""
        self._restored = [Composed.from_plain(dance) for dance in state["dances"]]

    def batches(self, epoch: int) -> Rollouts:
        """Windows of this epoch's dances: `turn` batches for the policy, as many for the value, and so on."""
        dances = self.rollouts()
        self._epoch, self._epoch_logs = epoch, mean_earned(dances)
        if self.config.choice.by == "reward" and self.choice.epoch < 0:
            self._judge(0, self._composed)
        indices = self._indices(sum(len(windows.mask) for windows, _ in dances), epoch)
        return Rollouts(dances, indices, self.config.turn, pinned=self.device.type == "cuda")

    def _judge(self, epoch: int, composed: Sequence[Composed]) -> None:
        """Takes note of how well the weights of an epoch dance; `composed` are theirs to the target songs."""
        found, split = self.pieces, self.config.choice.songs
        if split not in (None, self.config.songs):
            found = self._pieces(split)
            composed = self.performer.compose(self.model.gpt, found)
        dances = self.performer.danced(composed, found)
        windows, earned = [windows for windows, _ in dances], mean_earned(dances)["reward"]
        surprised = surprise(self.before, windows, self.device, self.config.training.batch_size)
        self.choice.judge(epoch, earned, surprised, self.model)
        self._epoch_logs |= {"judged_reward": earned, "surprise": surprised, "best_epoch": self.choice.epoch}

    def loss(self, learner: nn.Module, batch: Rollout) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The policy's or the value's loss; the base's output serves both, as its mask is causal."""
        upper, lower = (x.to(self.device, non_blocking=True) for x in batch.windows[:2])
        mask = batch.windows.mask.to(self.device, non_blocking=True)
        actions = Codes(upper[:, 1:-1], lower[:, 1:-1])
        features = self._features(batch)
        if not batch.policy_turn:
            earned = batch.reward.to(self.device, non_blocking=True)
            return value_turn(learner(features, "values"), earned, self.config.discount)
        error = self._td_error(batch, features)
        if self.config.advantage == "normalised":
            error = normalise(error, self._moments or moments(error, mask))
        seen = first_steps(features, actions.upper.shape[1])
        logits = learner(seen, "policy")
        with torch.no_grad():
            pretrained = self.before.head(seen)
        weight = distributed.mean_over_processes(
            mask.sum() if batch.weight is None else batch.weight.to(self.device)
        )
        return policy_turn(logits, pretrained, actions, error, mask, weight, self.config.anchor)

    def epoch_logs(self) -> Mapping[str, float]:
        """Mean reward of the epoch's dances, and its parts, over the actions that count."""
        if self.config.choice.by == "reward":
            self._ahead = self.performer.compose(self.model.gpt, self.pieces)
            self._judge(self._epoch, self._ahead)
        return self._epoch_logs

    @property
    def finished(self) -> bool:
        """Whether the config's patience is at an end."""
        return self.choice.finished

    def complete(self, folder: Path, epoch: int, anew: bool) -> None:
        """Prints and writes what finetuning made of the dance to each target song."""
        if anew or not (folder / FILES[0]).is_file():
            after, facts = self.choice.best(self.model), self.choice.facts(epoch)
            facts = {"run": self.config.name, "songs of split": self.config.songs, **facts}
            report(judge_songs(self.performer, self.before, after.gpt, self.pieces, facts), folder)

    def checkpoint(self) -> dict[str, Any]:
        """With the weights of the best epoch so far, where epochs are chosen."""
        chosen = {"choice": self.choice.state()} if self.config.choice.by == "reward" else {}
        return {**super().checkpoint(), **chosen}

    def restore(self, content: Mapping[str, Any]) -> None:
        """The best epoch so far, as a checkpoint had it."""
        if "choice" in content:
            self.choice.restore(content["choice"], content["config"]["choice"]["guard"])

    def load(self) -> int:
        """Load the weights of `load_run_policy` into the model; returns the run's number of epochs."""
        policy = load_run_policy(self.config, (self.name,))
        replaces_run = policy.published and policy.path != self.config.checkpoint_path
        self.judged = ROWS[policy.stage] if replaces_run else None
        if isinstance(policy.model, ActorCritic):
            if replaces_run:
                self.model = self.learner = policy.model.to(self.device)
            else:
                self.check_architecture(policy.architecture, policy.path)
                load_weights(self.model, policy.model.state_dict(), policy.path)
        self.model.eval()
        return policy.epochs

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Dances to the test songs, before and after finetuning."""
        evaluation = self.evaluation()
        rows = {"random codes": evaluation.random_codes(), "memory": evaluation.reconstructions()}
        if self.judged is None:
            rows["GPT"] = evaluation.generated(self.pretrained_gpt(), self.config.generation)
        shown = self.judged or "actor-critic"
        rows[shown] = evaluation.generated(self.model.gpt, self.config.generation)
        seen = None if shown == "GPT" else self.config.songs
        return evaluation.report(folder, rows, shown=shown, title=self.config.name, rl_split=seen)

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:
        """Raises ValueError unless the checkpoint heard the features that the data holds."""
        check_features(architecture, self.data.feature_version, path, self.config.data.root)

    def frozen(self) -> Mapping[str, str]:
        """The memory, and the GPT that finetuning started from."""
        return {"vqvae": fingerprint_of_memory(self.memory), "gpt": fingerprint(self.before.state_dict())}

    def architecture(self) -> dict[str, Any]:
        """The model's, and which features it hears."""
        return {**self.model.architecture(), "music": self.data.feature_version}

    def kind(self, batch: Rollout) -> str:
        """Whose turn it is."""
        return "policy" if batch.policy_turn else "value"

    @torch.no_grad()
    def _features(self, batch: Rollout) -> Tensor:
        """What the frozen base makes of the windows' codes and music."""
        upper, lower, music = (x.to(self.device, non_blocking=True) for x in batch.windows[:3])
        return self.model.gpt.base(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))

    def split(self, batch: Rollout, parts: int) -> list[Rollout]:
        """Parts whose mean loss is the batch's."""
        return split_rollout(batch, parts)

    @torch.no_grad()
    def begin_step(self, parts: list[Rollout]) -> None:
        """Advantages are normalised over the whole batch: a pass of the value before its parts."""
        if self.config.advantage == "normalised" and parts[0].policy_turn:
            errors = [self._td_error(part, self._features(part)) for part in parts]
            mask = torch.cat([part.windows.mask for part in parts]).to(self.device)
            self._moments = moments(torch.cat(errors), mask)

    @torch.no_grad()
    def _td_error(self, batch: Rollout, features: Tensor) -> Tensor:
        """TD errors (B, S - 2) of the actions as the value stands."""
        earned = batch.reward.to(self.device, non_blocking=True)
        return td_error(earned, self.model.values(features), self.config.discount)

    def batch_names(self, epoch: int, batch: int) -> list[str]:
        """Names of the dances whose windows are in a batch."""
        numbers = [len(dance.earned["reward"]) for dance in self._composed]
        owners = [d.piece for d, n in zip(self._composed, numbers, strict=True) for _ in range(n)]
        indices = self._indices(len(owners), epoch)[batch]
        return sorted({self.pieces[owners[index]].name for index in indices})
