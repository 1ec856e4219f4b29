"""Rollouts of finetuning: dances of the policy to whole songs, their rewards, advantages and windows.

Source: Bailando (CVPR 2022), section 3.5, which describes the loop in outline, and the published loop. Groups
of drawn dances: GRPO (arXiv 2402.03300).
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.clips import usable_frames, whole_music, with_context
from datasets.sequences import PreparedData
from models.actor_critic import action_nll, group_advantage, returns
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import MotionGPT
from models.reward import (
    NEED_REAL,
    RealMotion,
    RewardConfig,
    code_shares,
    real_motion,
    reward,
    usage_rewards,
)
from models.vqvae import ChoreographicMemory, Codes
from utils.device import to_device
from utils.motion import joints_to_pose, root_velocity, with_root
from utils.training import distributed


class TargetSong(NamedTuple):
    """A song to dance to, and the code pair that the dance starts from.

    Attributes:
        name: name of the real dance, or of the song if there is none.
        song: name of the song.
        music: (N, D) features of the whole song, the last step repeated once, as published.
        beats: (F,) bool, music beats per frame of the whole song.
        codes: codes of the real dance, (T',) each; the fixed pair, (1,) each, if there is none.
        frames: length of the real dance; 0 if there is none.
    """

    name: str
    song: str
    music: Tensor
    beats: Tensor
    codes: Codes
    frames: int

    @property
    def first(self) -> Codes:
        """The code pair that a dance starts from, (1,) each."""
        return Codes(self.codes.upper[:1], self.codes.lower[:1])


def target_songs(
    data: PreparedData, split: str, memory: ChoreographicMemory, fixed: tuple[int, int]
) -> list[TargetSong]:
    """Return a split's dances with their songs; if the data holds songs only, all songs.

    Raises:
        ValueError: if there is none, if one has no music, or if the fixed pair is not in the codebooks.
    """
    found = []
    if not data.names("all"):
        if fixed[0] >= memory.num_codes[0] or fixed[1] >= memory.num_codes[1]:
            raise ValueError(
                f"generation.first_codes {list(fixed)} must be below "
                f"the codebooks' sizes {list(memory.num_codes)}"
            )
        codes = Codes(torch.tensor(fixed[:1]), torch.tensor(fixed[1:]))
        for song in (data.song(name) for name in data.songs):
            music, beats = _whole(data, song.features, song.beats), torch.from_numpy(song.beats.copy())
            found.append(TargetSong(song.name, song.name, music, beats, codes, 0))
    else:
        for name in data.names(split):
            sequence = data.sequence(name)
            if not len(sequence.music):
                raise ValueError(f"sequence {name} in {data.root} has no music; prepare it with its song")
            frames = usable_frames(sequence)
            codes = memory.encode_dance(sequence.joints[:frames])
            music = _whole(data, sequence.music, sequence.beats)
            beats = torch.from_numpy(sequence.beats.copy())
            found.append(TargetSong(name, sequence.song, music, beats, codes, frames))
    if not found:
        raise ValueError(f"{data.root} has no song in split {split!r}")
    return found


def _whole(data: PreparedData, features: np.ndarray, beats: np.ndarray) -> Tensor:
    """Return a song's music (N, D) for generation; its frames are those of its beats."""
    return whole_music(features, len(beats), data.frames_per_step)[0]


class Windows(NamedTuple):
    """N windows of a dance, S codes each.

    Attributes:
        upper: (N, S) upper codes.
        lower: (N, S) lower codes.
        music: (N, S + 2 * reach, D) music features, with the steps before and after that a music transformer
            needs.
        beats: (N, S * frames_per_code) music beat flags of the window's frames, the last one repeated beyond
            the end of the song.
        mask: (N, S - 2) actions (codes 1..S-2) that count: all in a dance's first window, else the last, so
            that each generated code counts once, with the context it was generated in.
    """

    upper: Tensor
    lower: Tensor
    music: Tensor
    beats: Tensor
    mask: Tensor


def cut_windows(
    codes: tuple[Tensor, Tensor],
    music: Tensor,
    beats: Tensor,
    steps: int,
    frames_per_code: int,
    hop: int = 1,
    reach: int = 0,
) -> Windows:
    """Return windows of one dance, one code apart, or those of generation by a hop window.

    With a hop, each code counts in the very window that `generation.attention_window` predicts it from, and a
    window serves as many codes as the hop. At the end, up to `hop` codes may be in no window.

    Args:
        codes: upper and lower codes (L,) each.
        music: (L, D) features at the code rate.
        beats: (F,) flags at the frame rate.
        steps: codes in a window.
        frames_per_code: frames per code.
        hop: codes between the starts of windows, after the first two, which are one apart.
        reach: steps of music before and after each window; zeros beyond the song.

    Raises:
        ValueError: if the dance is shorter than one window.
    """
    upper, lower = codes
    number = len(upper) - steps + 1
    if number < 1 or len(music) < len(upper):
        raise ValueError(
            f"a dance of {len(upper)} codes and {len(music)} music steps is too short "
            f"for windows of {steps} codes"
        )
    frames = len(upper) * frames_per_code
    beats = padded(beats, frames)
    mask = torch.zeros(number, steps - 2)
    mask[0], mask[:, -1], mask[2:, -hop:] = 1, 1, 1
    windows = Windows(  # views, not copies: windows overlap in all but one step
        upper.unfold(0, steps, 1),
        lower.unfold(0, steps, 1),
        with_context(music, 0, len(upper), reach).unfold(0, steps + 2 * reach, 1).transpose(1, 2),
        beats.unfold(0, steps * frames_per_code, frames_per_code),
        mask,
    )
    return windows if hop == 1 else Windows(*(field[window_starts(number, hop)] for field in windows))


def padded(beats: Tensor, frames: int) -> Tensor:
    """Return as many flags as frames, the last one repeated beyond the end of the song."""
    return torch.cat([beats[:frames], beats[-1:].expand(max(0, frames - len(beats)))])


def window_starts(number: int, hop: int) -> Tensor:
    """Return which of a dance's windows, one code apart, `cut_windows` keeps for a hop."""
    return torch.cat([torch.arange(min(1, number)), torch.arange(1, number, hop)])


class Rollout(NamedTuple):
    """A dance of the policy to a whole song.

    Attributes:
        song: index of the target song.
        codes: (L,) each.
        windows: its N windows of S codes.
        rewards: the `reward` (N, S - 2) of each window's actions, and its parts; of a drawn dance also their
            `advantage` and their `behaviour_nll` under the policy that drew them, nats.
        hop: codes between windows, see `cut_windows`.
    """

    song: int
    codes: Codes
    windows: Windows
    rewards: Mapping[str, Tensor]
    hop: int = 1

    def state_dict(self) -> dict[str, Any]:
        """Return plain containers and tensors for a checkpoint; windows are cut again when it is read."""
        rewards = {name: part.contiguous() for name, part in self.rewards.items()}
        return {"song": self.song, "codes": tuple(self.codes), "rewards": rewards, "hop": self.hop}


def mean_rewards(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return the mean reward of the actions that count, and of its parts."""
    mask = torch.cat([rollout.windows.mask for rollout in rollouts])
    return {
        name: float((torch.cat([rollout.rewards[name] for rollout in rollouts]) * mask).sum() / mask.sum())
        for name in rollouts[0].rewards
        if name not in _LEARNING_SIGNALS
    }


_LEARNING_SIGNALS = ("advantage", "behaviour_nll")


class Draws(NamedTuple):
    """Settings of the groups of dances that are drawn from the policy.

    Attributes:
        group_size: dances per song.
        temperature: divisor of the logits.
        discount: of later rewards in the return of an action.
        seed: of the draws.
    """

    group_size: int
    temperature: float
    discount: float
    seed: int


class RolloutCollector:
    """Generates dances with a policy and computes per-step rewards.

    Attributes:
        memory: the frozen memory, with its velocity branch.
        generation: config of the generation.
        rules: config of the reward.
        batch_size: windows that are decoded, or scored by the policy, at a time.
        steps: codes in a window.
        device: device of the computation.
        real: levels of real dances that rewards compare with; None if they are not known.
        real_codes: shares of the codes of real dances; None if the usage has no weight.
        reach: steps of music around a window that the policy needs, see `MotionGPT.reach`.
    """

    def __init__(
        self,
        memory: ChoreographicMemory,
        generation: GenerationConfig,
        rules: RewardConfig,
        batch_size: int,
        steps: int,
        device: torch.device,
        real: RealMotion | None = None,
        reach: int = 0,
        real_codes: Codes | None = None,
    ) -> None:
        self.reach, self.real_codes = reach, real_codes
        self.memory, self.generation, self.rules = memory, generation, rules
        self.batch_size, self.steps, self.device, self.real = batch_size, steps, device, real

    @torch.no_grad()
    def collect(
        self, policy: MotionGPT, songs: Sequence[TargetSong], chosen: Sequence[int] | None = None
    ) -> list[Rollout]:
        """Return the policy's dances to whole songs, generated as --eval does.

        All processes must call it: each generates its share of the songs, and all get all rollouts.

        Args:
            policy: the motion GPT.
            songs: the target songs.
            chosen: indices of the songs that get a dance; None: all.
        """
        chosen = range(len(songs)) if chosen is None else chosen
        own = [chosen[i] for i in distributed.own_share(len(chosen))]
        dances = self._generate(policy, [(songs[i], songs[i].name) for i in own], self.generation)
        done = [(i, codes, self._rewards(codes, songs[i])) for i, codes in zip(own, dances, strict=True)]
        results = distributed.gather_shares(done)
        rewards = self._with_usage([codes for _, codes, _ in results], [parts for _, _, parts in results])
        return [
            Rollout(i, codes, self._windows(codes, songs[i]), parts)
            for (i, codes, _), parts in zip(results, rewards, strict=True)
        ]

    @torch.no_grad()
    def draw(
        self, policy: MotionGPT, songs: Sequence[TargetSong], chosen: Sequence[int], draws: Draws
    ) -> list[Rollout]:
        """Return a group of drawn dances per chosen song, with the advantage of each action in its group.

        Dances are drawn from the whole distribution, whatever the config's top_k and top_p, so that its
        probabilities are those of the actions. All processes must call it, as `collect`.
        """
        hop = self.generation.window_and_hop(policy.config.context)[1]
        pairs = [(i, variant) for i in chosen for variant in range(draws.group_size)]
        own = [pairs[i] for i in distributed.own_share(len(pairs))]
        prompts = [(songs[i], f"{songs[i].name}/{variant}") for i, variant in own]
        whole = {"temperature": draws.temperature, "top_k": 0, "top_p": 1.0, "seed": draws.seed}
        dances = self._generate(policy, prompts, self.generation.model_copy(update=whole))
        done = []
        for (i, _), codes in zip(own, dances, strict=True):
            windows = self._windows(codes, songs[i], hop)
            nll = self._nll(policy, windows, draws.temperature)
            done.append((i, codes, self._whole_rewards(codes, songs[i]), nll))
        results = distributed.gather_shares(done)
        rewards = self._with_usage([each[1] for each in results], [each[2] for each in results])
        found = []
        for start in range(0, len(results), draws.group_size):
            group = slice(start, start + draws.group_size)
            earned = torch.stack([parts["reward"] for parts in rewards[group]])
            advantages = group_advantage(returns(earned, draws.discount))
            for (i, codes, _, nll), parts, advantage in zip(
                results[group], rewards[group], advantages, strict=True
            ):
                cut = {k: self._per_window(x, hop) for k, x in {**parts, "advantage": advantage}.items()}
                windows = self._windows(codes, songs[i], hop)
                found.append(Rollout(i, codes, windows, {**cut, "behaviour_nll": nll}, hop))
        return found

    def restore(self, state: Mapping[str, Any], songs: Sequence[TargetSong]) -> Rollout:
        """Return the rollout that `Rollout.state_dict` has saved."""
        state = {_RENAMED.get(name, name): value for name, value in state.items()}
        song, codes, hop = state["song"], Codes(*state["codes"]), state.get("hop", 1)
        return Rollout(song, codes, self._windows(codes, songs[song], hop), state["rewards"], hop)

    @torch.no_grad()
    def controls(
        self, data: PreparedData, songs: Sequence[TargetSong], seed: int
    ) -> dict[str, dict[str, float]]:
        """Return the mean of each part of the reward for dances that no policy made, by the name of a row.

        `real` and `memory`: the real dances, and the same through the memory, if there are any; `random
        codes`: uniformly random codes of the same length, or of that of the song.
        """
        generator, per_code = torch.Generator().manual_seed(seed), self.memory.frames_per_code
        rows: dict[str, list[dict[str, Tensor]]] = {"real": [], "memory": [], "random codes": []}
        random = []
        for song in songs:
            length = len(song.codes.upper) if song.frames else len(song.music)
            drawn = Codes(*(torch.randint(k, (length,), generator=generator) for k in self.memory.num_codes))
            random.append(drawn)
            rows["random codes"].append(self._whole_rewards(drawn, song))
            frames = song.frames // per_code * per_code
            if frames:
                rows["memory"].append(self._whole_rewards(song.codes, song))
                joints = torch.from_numpy(np.array(data.sequence(song.name).joints[:frames], np.float32))
                pose = with_root(joints_to_pose(joints), root_velocity(joints[:, 0]))[None]
                parts = reward(pose, song.beats[None, :frames], per_code, self.rules, self.real)
                rows["real"].append({name: part[0] for name, part in parts.items()})
        rows["random codes"] = self._with_usage(random, rows["random codes"])
        for row in ("real", "memory"):  # of the same codes
            rows[row] = self._with_usage([song.codes for song in songs if song.frames], rows[row])
        return {
            row: {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}
            for row, parts in rows.items()
            if parts
        }

    def _generate(
        self, policy: MotionGPT, songs: Sequence[tuple[TargetSong, str]], how: GenerationConfig
    ) -> list[Codes]:
        """Return a dance to each song; the text beside a song determines its draws."""
        prompts = [
            Prompt(with_context(song.music, 0, len(song.music), self.reach), song.first, key)
            for song, key in songs
        ]
        return generate(policy.eval(), prompts, how, self.device, progress=True)

    def _windows(self, codes: Codes, song: TargetSong, hop: int = 1) -> Windows:
        per_code, reach = self.memory.frames_per_code, self.reach
        return cut_windows(codes, song.music, song.beats, self.steps, per_code, hop, reach)

    def _nll(self, policy: MotionGPT, windows: Windows, temperature: float) -> Tensor:
        """Return -log p (N, S - 2) of each window's actions under the policy, nats, both halves added."""
        parts = []
        for upper, lower, music in zip(*(x.split(self.batch_size) for x in windows[:3]), strict=True):
            upper, lower, music = (x.to(self.device) for x in (upper, lower, music))
            logits = policy(music[:, 1:-1], Codes(upper[:, :-2], lower[:, :-2]))
            actions = Codes(upper[:, 1:-1], lower[:, 1:-1])
            parts.append(action_nll(logits, actions, temperature).cpu())
        return torch.cat(parts)

    def _per_window(self, x: Tensor, hop: int = 1) -> Tensor:
        """Return (N, S - 2) values of the windows' actions from those of the dance's codes (L,)."""
        windows = x.unfold(0, self.steps, 1)[:, 1:-1]
        return windows if hop == 1 else windows[window_starts(len(windows), hop)]

    def _rewards(self, codes: Codes, song: TargetSong) -> dict[str, Tensor]:
        """Return the reward (N, S - 2) of each window's actions, and its parts."""
        if self.rules.context == "dance":
            whole = self._whole_rewards(codes, song)
            return {name: self._per_window(part) for name, part in whole.items()}
        per_code, windows = self.memory.frames_per_code, self._windows(codes, song)
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(windows.upper), self.batch_size):
            batch = slice(start, start + self.batch_size)
            actions = Codes(windows.upper[batch, 1:-1], windows.lower[batch, 1:-1])
            parts.append(self._decode_and_reward(actions, windows.beats[batch, per_code:-per_code]))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _whole_rewards(self, codes: Codes, song: TargetSong) -> dict[str, Tensor]:
        """Return the reward (L,) of each code of a dance, and its parts."""
        frames = len(codes.upper) * self.memory.frames_per_code
        beats = padded(song.beats, frames)
        whole = self._decode_and_reward(Codes(codes.upper[None], codes.lower[None]), beats[None])
        return {name: part[0] for name, part in whole.items()}

    def _with_usage(
        self, dances: Sequence[Codes], rewards: Sequence[dict[str, Tensor]]
    ) -> list[dict[str, Tensor]]:
        """Return the rewards of all dances of an epoch, per code or per window, with the usage of codes."""
        if self.real_codes is None:
            return list(rewards)
        found = []
        for parts, usage in zip(rewards, usage_rewards(dances, self.real_codes), strict=True):
            total = parts["reward"]
            part = usage[: len(total)] if total.ndim == 1 else self._per_window(usage)
            found.append({**parts, "usage": part, "reward": total + self.rules.usage * part})
        return found

    def _decode_and_reward(self, codes: Codes, beats: Tensor) -> dict[str, Tensor]:
        pose = self.memory.decode(Codes(codes.upper.to(self.device), codes.lower.to(self.device)))
        parts = reward(pose, beats.to(self.device), self.memory.frames_per_code, self.rules, self.real)
        return {name: part.cpu() for name, part in parts.items()}


def _real_data(data: PreparedData, rules: RewardConfig) -> PreparedData:
    """Return the data whose training dances are the real ones."""
    return PreparedData(Path(rules.reference)) if rules.reference else data


def real_levels(data: PreparedData, rules: RewardConfig, frames_per_code: int) -> RealMotion | None:
    """Return the levels of the real dances that the reward compares with; None if there are none.

    Raises:
        ValueError: if there are none, and a part of the reward that needs them has a weight.
    """
    source = _real_data(data, rules)
    names = source.names("train")
    if names:
        return real_motion((source.sequence(name).joints for name in names), frames_per_code)
    needed = [name for name in NEED_REAL if rules.weights[name] > 0]
    if needed:
        raise ValueError(
            f"reward.{needed[0]} {rules.weights[needed[0]]} compares with real dances, and {source.root} "
            "has none to train on; name prepared data that has (reward.reference=data/sample), or set it to 0"
        )
    return None


def real_shares(data: PreparedData, rules: RewardConfig, memory: ChoreographicMemory) -> Codes | None:
    """Return how often real dances use each code; None if the usage has no weight.

    Call it after `real_levels`, which says what is missing if there are no real dances.
    """
    if rules.usage == 0:
        return None
    source = _real_data(data, rules)
    sequences = (source.sequence(name) for name in source.names("train"))
    dances = (memory.encode_dance(each.joints[: usable_frames(each)]) for each in sequences)
    return code_shares(dances, memory.num_codes)


_RENAMED = {"piece": "song", "earned": "rewards"}  # entries of checkpoints of formats 1 and 2


class WindowVectors(NamedTuple):
    """Vectors of the music transformer for windows: those of the value and, one step shorter, of the policy.

    Attributes:
        value: (B, S - 1, C), of codes 1 to S - 1.
        policy: (B, S - 2, C), of codes 1 to S - 2; other numbers, as the window ends earlier.
    """

    value: Tensor
    policy: Tensor


class WindowBatch(NamedTuple):
    """A batch of windows, the reward (B, S - 2) of their actions, and the network that it updates.

    `vectors` replaces the windows' music if the GPT has a music transformer.
    """

    windows: Windows
    reward: Tensor
    updates_policy: bool
    vectors: WindowVectors | None = None


class DrawnBatch(NamedTuple):
    """A batch of windows of drawn dances; (B, S - 2) advantage and behaviour NLL (nats) of their actions.

    `vectors` as of `WindowBatch`.
    """

    windows: Windows
    advantage: Tensor
    behaviour_nll: Tensor
    vectors: WindowVectors | None = None


class WindowEncoder:
    """The vectors of the music transformer for all windows of the target songs, computed once per run.

    The transformer is frozen in finetuning, and windows do not depend on codes. Policy and value need two
    passes: a window that ends earlier has other vectors.

    Args:
        gpt: with a music transformer, in eval mode; its weights must not change.
        steps: S, codes in a window.
    """

    def __init__(self, gpt: MotionGPT, steps: int) -> None:
        assert gpt.music is not None
        self._transformer, self._reach, self._steps = gpt.music, gpt.reach, steps
        self._songs: dict[str, WindowVectors] = {}

    def of(self, song: TargetSong, device: torch.device) -> WindowVectors:
        """Vectors (W, S - 1, C) and (W, S - 2, C) of all windows of a song, one code apart."""
        if song.song not in self._songs:
            music = with_context(song.music, 0, len(song.music), self._reach).to(device)
            starts = torch.arange(1, len(song.music) - self._steps + 2)
            lengths = self._steps - 1, self._steps - 2
            vectors = (
                torch.stack(self._transformer.of_windows(music, starts, torch.full_like(starts, length)))
                for length in lengths
            )
            self._songs[song.song] = WindowVectors(*vectors)
        return self._songs[song.song]


class WindowSource:
    """The windows of all dances of an epoch on a device, as places in the dances, since windows overlap.

    Args:
        rollouts: the dances.
        songs: the target songs.
        device: where batches are used.
        encoder: of the music, if the GPT has a music transformer.
    """

    def __init__(
        self,
        rollouts: Sequence[Rollout],
        songs: Sequence[TargetSong],
        device: torch.device,
        encoder: WindowEncoder | None = None,
    ) -> None:
        windows = rollouts[0].windows
        self.steps = windows.upper.shape[1]
        self.per_code = windows.beats.shape[1] // self.steps
        danced = sorted({rollout.song for rollout in rollouts})
        music_starts = dict(zip(danced, _starts(len(songs[i].music) for i in danced), strict=True))
        places = []  # of each window's first code, in the codes of all dances and in the music of all songs
        for rollout, first in zip(rollouts, _starts(len(r.codes.upper) for r in rollouts), strict=True):
            number = len(rollout.codes.upper) - self.steps + 1
            own = window_starts(number, rollout.hop)
            places.append(torch.stack([own + first, own + music_starts[rollout.song]]))
        self._places = torch.cat(places, 1).to(device)
        self._codes = [torch.cat(half).to(device) for half in zip(*(r.codes for r in rollouts), strict=True)]
        self._music = torch.cat([songs[i].music for i in danced]).to(device)
        beats = [padded(songs[i].beats, len(songs[i].music) * self.per_code) for i in danced]
        self._beats = torch.cat(beats).to(device)
        self._mask = torch.cat([rollout.windows.mask for rollout in rollouts]).to(device)
        self._vectors: WindowVectors | None = None
        if encoder is not None:
            encoded = {songs[i].song: encoder.of(songs[i], device) for i in danced}
            rows = dict(zip(encoded, _starts(len(v.value) for v in encoded.values()), strict=True))
            offsets = [rows[songs[r.song].song] - music_starts[r.song] for r in rollouts]
            lengths = torch.tensor([len(rollout.windows.mask) for rollout in rollouts])
            self._rows = self._places[1] + torch.tensor(offsets).repeat_interleave(lengths).to(device)
            self._vectors = WindowVectors(*(torch.cat(x) for x in zip(*encoded.values(), strict=True)))
        self.signals = {
            name: torch.cat([rollout.rewards[name] for rollout in rollouts]).to(device)
            for name in SIGNALS
            if name in rollouts[0].rewards
        }

    def windows(self, chosen: Tensor) -> Windows:
        """The chosen windows (B,)."""
        codes, music = self._places[:, chosen].unsqueeze(-1)
        steps = torch.arange(self.steps, device=chosen.device)
        frames = torch.arange(self.steps * self.per_code, device=chosen.device)
        upper, lower = (half[codes + steps] for half in self._codes)
        return Windows(
            upper,
            lower,
            self._music[music + (steps if self._vectors is None else steps[:0])],
            self._beats[music * self.per_code + frames],
            self._mask[chosen],
        )

    def vectors(self, chosen: Tensor) -> WindowVectors | None:
        """The music transformer's vectors of the chosen windows (B,); None without one."""
        if self._vectors is None:
            return None
        return WindowVectors(*(part[self._rows[chosen]] for part in self._vectors))


SIGNALS = ("reward", *_LEARNING_SIGNALS)  # that losses use


def _starts(lengths: Iterable[int]) -> list[int]:
    """Where each of several sequences begins if they are joined."""
    return [0, *itertools.accumulate(lengths)][:-1]


class WindowBatches:
    """The batches of an epoch: windows in random order, on the device.

    Those of drawn dances are `DrawnBatch`es. All others are `WindowBatch`es, which in turn update policy and
    value.

    Args:
        rollouts: the dances of the epoch.
        songs: the target songs.
        batches: indices of the windows of each batch, over all processes.
        turn: number of batches that update the policy before as many update the value.
        device: where the batches are used.
        encoder: of the music, if the GPT has a music transformer.
    """

    def __init__(
        self,
        rollouts: Sequence[Rollout],
        songs: Sequence[TargetSong],
        batches: Sequence[Sequence[int]],
        turn: int,
        device: torch.device,
        encoder: WindowEncoder | None = None,
    ) -> None:
        self.rollouts, self.songs, self.batches = rollouts, songs, batches
        self.turn, self.device, self.encoder, self.done = turn, device, encoder, 0
        self._drawn = all("advantage" in rollout.rewards for rollout in rollouts)
        self._dances = [rollout.song for rollout in rollouts for _ in rollout.windows.mask]

    def skip(self, done: int) -> None:
        """Leave out the first batches; whether the rest updates policy or value does not change."""
        self.done = done

    def names(self, batch: int) -> list[str]:
        """Return the dances whose windows are in a batch of the epoch, over all processes."""
        return sorted({self.songs[self._dances[index]].name for index in self.batches[batch]})

    def __len__(self) -> int:
        return len(self.batches) - self.done

    def __iter__(self) -> Iterator[WindowBatch | DrawnBatch]:
        source = WindowSource(self.rollouts, self.songs, self.device, self.encoder)
        own = [distributed.share(list(batch)) for batch in self.batches[self.done :]]
        for number, chosen in enumerate(
            to_device(torch.tensor(own, dtype=torch.long), self.device), self.done
        ):
            windows, signals, vectors = source.windows(chosen), source.signals, source.vectors(chosen)
            if self._drawn:
                drawn = signals["advantage"][chosen], signals["behaviour_nll"][chosen]
                yield DrawnBatch(windows, *drawn, vectors)
            else:
                turn = number // self.turn % 2 == 0
                yield WindowBatch(windows, signals["reward"][chosen], turn, vectors)
