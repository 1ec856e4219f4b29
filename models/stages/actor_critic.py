"""Stage 4: actor-critic finetuning of the motion GPT on its target songs. Bailando (CVPR 2022), section 3.5.

As in the paper, the target songs are those of the test split: their music is used, their dances are not.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from models.actor_critic import (
    ActorCritic,
    ValueConfig,
    divergence,
    explained_variance,
    first_steps,
    normalise,
    policy_entropy,
    policy_loss,
    td_error,
    value_loss,
)
from models.checkpoints import ROWS, load_memory, load_policy, load_run_policy
from models.evaluation.finetuning import FILES, judge_songs, report
from models.gpt import MotionGPT, code_losses
from models.reward import RewardConfig
from models.stages.base import GPTRunConfig, Stage, fingerprint_of_memory
from models.stages.changes import fingerprint, saved_values
from models.stages.motion_gpt import check_features, check_rate
from models.stages.rollouts import (
    Rollout,
    RolloutCollector,
    TargetSong,
    WindowBatch,
    WindowBatches,
    mean_rewards,
    target_songs,
)
from models.stages.selection import Selection, SelectionConfig, nll
from models.vqvae import ChoreographicMemory, Codes
from utils.training import distributed
from utils.training.checkpoints import load_weights


class ActorCriticConfig(GPTRunConfig):
    """Config of stage actor_critic."""

    renamed: ClassVar[Mapping[str, str]] = {
        **GPTRunConfig.renamed,
        "anchor": "kl_coef",
        "choice": "selection",
    }

    gpt: str
    """Checkpoint of stage motion_gpt, or a published one. If `checkpoint` is null, --eval uses a published
    actor-critic named here, or a published GPT if this run has no checkpoint of its own."""
    songs: str = "test"
    """Split of the target songs, for which dances are generated during finetuning; `test` as in the paper. If
    the data holds songs only, all of them are used."""
    value: ValueConfig = ValueConfig()
    """Architecture of the value stack; see ValueConfig."""
    reward: RewardConfig = RewardConfig()
    """Reward of a dance; see RewardConfig."""
    advantage: Literal["td_error", "normalised"] = "td_error"
    """Weight of an action in the policy loss: the `td_error`, as published, or the TD error `normalised` over
    the batch. Nearly every action has reward -5, so before the value is trained, the plain TD error lowers
    the probability of good actions too."""
    kl_coef: NonNegativeFloat = 0.0
    """Weight of KL(policy || pretrained GPT), in nats per code, in the policy loss; 0 as published."""
    selection: SelectionConfig = SelectionConfig()
    """Selection of the epoch whose weights are used; see SelectionConfig."""
    discount: PositiveFloat = 1.0
    """Factor of the next state's value in the TD error."""
    turn: PositiveInt = 5
    """Number of batches that update the policy before as many update the value, in turn."""

    @property
    def other_gpt(self) -> Path:
        """The file that --dance uses instead of the run's own checkpoint if it is a published one."""
        return Path(self.gpt)


class ActorCriticStage(Stage):
    """Finetunes the GPT's head by the rewards of its own dances; the base is frozen."""

    name = "actor_critic"
    Config = ActorCriticConfig
    config: ActorCriticConfig
    model: ActorCritic
    judged: str | None = None  # name of a published file's network if --eval uses that instead of a run

    def __init__(self, config: ActorCriticConfig, device: torch.device) -> None:
        super().__init__(config, device)
        path = Path(config.vqvae)
        self._memory = load_memory(path, config.made_by(path), velocity=True).to(device)
        check_rate(self.data.music_fps, self.data.fps, self._memory.frames_per_code, config.data.root)
        self.model = ActorCritic(self._load_gpt(), config.value).to(device)
        self.pretrained = copy.deepcopy(self.model.gpt).requires_grad_(False).eval()
        self.trainable = self.model
        self.collector = RolloutCollector(
            self._memory,
            config.generation.model_copy(update={"compile": False}),  # compiled weights would be constants
            config.reward,
            config.training.batch_size,
            self.model.gpt.config.context + 1,
            device,
        )
        self.selection = Selection(config.selection)
        self.epoch = 0  # the epoch in progress, or the last one
        self.rollouts: tuple[int, list[Rollout]] | None = None  # the epoch that they are for, and the dances
        self.metrics: dict[str, float] = {}  # of the epoch

    def _load_gpt(self) -> MotionGPT:
        path = Path(self.config.gpt)
        policy = load_policy(path, self.config.made_by(path))
        check_features(policy.architecture, self.data.feature_version, path, self.config.data.root)
        gpt = policy.gpt
        if gpt.num_codes != self._memory.num_codes:
            raise ValueError(
                f"{path} has {gpt.num_codes} codes (upper, lower), the memory {self.config.vqvae} has "
                f"{self._memory.num_codes}; they must be of one training"
            )
        return gpt.to(self.device).eval()

    @property
    def memory(self) -> ChoreographicMemory:
        """The frozen memory."""
        return self._memory

    @cached_property
    def songs(self) -> list[TargetSong]:
        """The target songs."""
        return self._songs(self.config.songs)

    def _songs(self, split: str) -> list[TargetSong]:
        return target_songs(self.data, split, self._memory, self.config.generation.first_codes)

    # Training ------------------------------------------------------------------------------------------

    def batches(self, epoch: int) -> WindowBatches:
        """Return windows of the policy's dances to the target songs.

        The dances are generated with the weights at the start of the epoch, unless they were restored from a
        checkpoint or generated already by `end_epoch`.
        """
        if self.rollouts is None or self.rollouts[0] != epoch:
            self.rollouts = epoch, self.collector.collect(self.model.gpt, self.songs)
        rollouts = self.rollouts[1]
        self.epoch, self.metrics = epoch, mean_rewards(rollouts)
        if self.config.selection.by == "reward" and self.selection.epoch < 0:
            self._consider(0, rollouts)
        indices = self.epoch_batches(sum(len(rollout.windows.mask) for rollout in rollouts), epoch)
        return WindowBatches(rollouts, self.songs, indices, self.config.turn, self.device.type == "cuda")

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the policy loss or the value loss; one pass of the frozen base serves both."""
        upper, lower, music = (x.to(self.device, non_blocking=True) for x in batch.windows[:3])
        reward = batch.reward.to(self.device, non_blocking=True)
        mask = batch.windows.mask.to(self.device, non_blocking=True)
        actions = Codes(upper[:, 1:-1], lower[:, 1:-1])
        with torch.no_grad():
            states = self.model.gpt.base(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))

        if not batch.updates_policy:
            values = self.trainable(states, "values")
            error = td_error(reward, values, self.config.discount)
            loss = value_loss(error)
            return loss, {"value_loss": loss, "explained_variance": explained_variance(error, values)}

        with torch.no_grad():
            error = td_error(reward, self.model.values(states), self.config.discount)
            advantage = normalise(error, mask) if self.config.advantage == "normalised" else error
        states = first_steps(states, mask.shape[1])
        logits = self.trainable(states, "policy")
        nll_upper, nll_lower = code_losses(logits, actions)
        weight = distributed.mean_over_processes(mask.sum())
        loss = objective = policy_loss(nll_upper + nll_lower, advantage, mask, weight)
        with torch.set_grad_enabled(self.config.kl_coef > 0):
            kl = divergence(logits, self.pretrained.head(states)).mean()
        if self.config.kl_coef > 0:
            objective = loss + self.config.kl_coef * kl
        entropy = (policy_entropy(logits) * mask).sum() / mask.sum()
        metrics = {"policy_loss": loss, "entropy": entropy, "td_error": error.mean(), "kl_to_gpt": kl}
        return objective, metrics

    def end_epoch(self, epoch: int) -> Mapping[str, float]:
        """Return the mean reward of the epoch's dances and its parts, and the state of the selection."""
        self.rollouts = None
        if self.config.selection.by == "reward":
            self.rollouts = epoch + 1, self.collector.collect(self.model.gpt, self.songs)
            self._consider(epoch, self.rollouts[1])
        return self.metrics

    def _consider(self, epoch: int, rollouts: Sequence[Rollout]) -> None:
        """Update the selection with the weights after an epoch and their dances to the target songs."""
        if self.config.selection.songs not in (None, self.config.songs):
            songs = self._songs(self.config.selection.songs)
            rollouts = self.collector.collect(self.model.gpt, songs)
        reward = mean_rewards(rollouts)["reward"]
        windows = [rollout.windows for rollout in rollouts]
        dance_nll = nll(self.pretrained, windows, self.device, self.config.training.batch_size)
        self.selection.update(epoch, reward, dance_nll, self.model)
        self.metrics |= {"judged_reward": reward, "nll": dance_nll, "best_epoch": self.selection.epoch}

    @property
    def finished(self) -> bool:  # type: ignore[override]
        """Whether the patience of the selection is exhausted."""
        return self.selection.finished

    def end_training(self, folder: Path, epoch: int) -> None:
        """Print and write each target song's scores before and after finetuning."""
        trained = self.epoch > 0  # in this process
        if trained or not (folder / FILES[0]).is_file():
            summary = {"run": self.config.name, "songs of split": self.config.songs}
            summary |= self.selection.summary(epoch)
            after = self.selection.selected(self.model).gpt
            report(judge_songs(self.collector, self.pretrained, after, self.songs, summary), folder)

    # Checkpoints ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the model, the selection, and the dances of an unfinished epoch."""
        state = super().state_dict()
        if self.config.selection.by == "reward":
            state["selection"] = self.selection.state_dict()
        if self.rollouts is not None and self.rollouts[0] == self.epoch:
            state["rollouts"] = [rollout.state_dict() for rollout in self.rollouts[1]]
        return state

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(content, path)
        if "selection" in content:
            saved = saved_values(type(self.config), content["config"])
            self.selection.load_state_dict(content["selection"], saved["selection.max_nll_increase"])
        # Format 2 holds the dances below `epoch_state`.
        rollouts = content.get("rollouts") or content.get("epoch_state", {}).get("dances")
        if rollouts:
            dances = [self.collector.restore(rollout, self.songs) for rollout in rollouts]
            self.rollouts = content["epoch"] + 1, dances

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Hashes of the data, of the memory, and of the pretrained GPT."""
        hashes = {"vqvae": fingerprint_of_memory(self.memory)}
        return {**super().built_on, **hashes, "gpt": fingerprint(self.pretrained.state_dict())}

    def architecture(self) -> dict[str, Any]:
        """Return the model's architecture and the version of its music features."""
        return {**self.model.architecture(), "music": self.data.feature_version}

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:
        """Raise ValueError unless the checkpoint was trained on the data's version of features."""
        check_features(architecture, self.data.feature_version, path, self.config.data.root)

    # Evaluation ----------------------------------------------------------------------------------------

    def load(self) -> int:
        """Load the weights of `load_run_policy` into the model; return the run's number of epochs."""
        policy = load_run_policy(self.config, (self.name,))
        replaces_run = policy.published and policy.path != self.config.checkpoint_path
        self.judged = ROWS[policy.stage] if replaces_run else None
        if isinstance(policy.model, ActorCritic):
            if replaces_run:
                self.model = self.trainable = policy.model.to(self.device)
            else:
                self.check_architecture(policy.architecture, policy.path)
                load_weights(self.model, policy.model.state_dict(), policy.path)
        self.model.eval()
        return policy.epochs

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Evaluate dances to the test songs, before and after finetuning."""
        evaluation = self.evaluation()
        rows = {"random codes": evaluation.random_codes(), "memory": evaluation.reconstructions()}
        if self.judged is None:
            rows["GPT"] = evaluation.generated(self.pretrained, self.config.generation)
        shown = self.judged or "actor-critic"
        rows[shown] = evaluation.generated(self.model.gpt, self.config.generation)
        seen = None if shown == "GPT" else self.config.songs
        return evaluation.report(folder, rows, shown=shown, title=self.config.name, rl_split=seen)
