"""Rollouts of actor-critic finetuning: dances of the policy to whole songs, their rewards and windows.

Source: Bailando (CVPR 2022), section 3.5, which describes the loop in outline, and the published loop.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.clips import usable_frames, whole_music
from datasets.loading import map_tensors
from datasets.sequences import PreparedData
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import MotionGPT
from models.reward import RewardConfig, reward
from models.vqvae import ChoreographicMemory, Codes
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
            music, beats = whole_music(song.features)[0], torch.from_numpy(song.beats.copy())
            found.append(TargetSong(song.name, song.name, music, beats, codes, 0))
    else:
        for name in data.names(split):
            sequence = data.sequence(name)
            if not len(sequence.music):
                raise ValueError(f"sequence {name} in {data.root} has no music; prepare it with its song")
            frames = usable_frames(sequence)
            codes = memory.encode_dance(sequence.joints[:frames])
            music, beats = whole_music(sequence.music)[0], torch.from_numpy(sequence.beats.copy())
            found.append(TargetSong(name, sequence.song, music, beats, codes, frames))
    if not found:
        raise ValueError(f"{data.root} has no song in split {split!r}")
    return found


class Windows(NamedTuple):
    """N windows of a dance, S codes each.

    Attributes:
        upper: (N, S) upper codes.
        lower: (N, S) lower codes.
        music: (N, S, D) music features.
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
    codes: tuple[Tensor, Tensor], music: Tensor, beats: Tensor, steps: int, frames_per_code: int
) -> Windows:
    """Return all windows of one dance, one code apart.

    Args:
        codes: upper and lower codes (L,) each.
        music: (L, D) features at the code rate.
        beats: (F,) flags at the frame rate.
        steps: codes in a window.
        frames_per_code: frames per code.

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
    mask = torch.zeros(number, steps - 2)
    mask[0], mask[:, -1] = 1, 1
    frames = len(upper) * frames_per_code
    beats = torch.cat([beats[:frames], beats[-1:].expand(max(0, frames - len(beats)))])
    return Windows(  # views, not copies: windows overlap in all but one step
        upper.unfold(0, steps, 1),
        lower.unfold(0, steps, 1),
        music[: len(upper)].unfold(0, steps, 1).transpose(1, 2),
        beats.unfold(0, steps * frames_per_code, frames_per_code),
        mask,
    )


class Rollout(NamedTuple):
    """A dance of the policy to a whole song.

    Attributes:
        song: index of the target song.
        codes: (L,) each.
        windows: its N windows of S codes.
        rewards: the `reward` (N, S - 2) of each window's actions, and its parts.
    """

    song: int
    codes: Codes
    windows: Windows
    rewards: Mapping[str, Tensor]

    def state_dict(self) -> dict[str, Any]:
        """Return plain containers and tensors for a checkpoint; windows are cut again when it is read."""
        rewards = {name: part.contiguous() for name, part in self.rewards.items()}
        return {"song": self.song, "codes": tuple(self.codes), "rewards": rewards}


def mean_rewards(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Return the mean reward of the actions that count, and of its parts."""
    mask = torch.cat([rollout.windows.mask for rollout in rollouts])
    return {
        name: float((torch.cat([rollout.rewards[name] for rollout in rollouts]) * mask).sum() / mask.sum())
        for name in rollouts[0].rewards
    }


class RolloutCollector:
    """Generates dances with a policy and computes per-step rewards.

    Attributes:
        memory: the frozen memory, with its velocity branch.
        generation: config of the generation.
        rules: config of the reward.
        batch_size: windows that are decoded at a time if each is rewarded by itself.
        steps: codes in a window.
        device: device of the computation.
    """

    def __init__(
        self,
        memory: ChoreographicMemory,
        generation: GenerationConfig,
        rules: RewardConfig,
        batch_size: int,
        steps: int,
        device: torch.device,
    ) -> None:
        self.memory, self.generation, self.rules = memory, generation, rules
        self.batch_size, self.steps, self.device = batch_size, steps, device

    @torch.no_grad()
    def collect(self, policy: MotionGPT, songs: Sequence[TargetSong]) -> list[Rollout]:
        """Return the policy's dances to whole songs.

        All processes must call it: each generates its share of the songs, and all get all rollouts.
        """
        own = distributed.own_share(len(songs))
        done: list[tuple[int, Codes, dict[str, Tensor]]] = []
        if own:
            share = [songs[i] for i in own]
            prompts = [Prompt(song.music, song.first, song.name) for song in share]
            dances = generate(policy.eval(), prompts, self.generation, self.device, progress=True)
            for i, codes in zip(own, dances, strict=True):
                done.append((i, codes, self._rewards(codes, songs[i])))
        results = distributed.gather_shares(done)
        return [Rollout(i, codes, self._windows(codes, songs[i]), parts) for i, codes, parts in results]

    def restore(self, state: Mapping[str, Any], songs: Sequence[TargetSong]) -> Rollout:
        """Return the rollout that `Rollout.state_dict` has saved."""
        state = {_RENAMED.get(name, name): value for name, value in state.items()}
        song, codes = state["song"], Codes(*state["codes"])
        return Rollout(song, codes, self._windows(codes, songs[song]), state["rewards"])

    def _windows(self, codes: Codes, song: TargetSong) -> Windows:
        return cut_windows(codes, song.music, song.beats, self.steps, self.memory.frames_per_code)

    def _rewards(self, codes: Codes, song: TargetSong) -> dict[str, Tensor]:
        """Return the reward (N, S - 2) of each window's actions, and its parts."""
        per_code, windows = self.memory.frames_per_code, self._windows(codes, song)
        if self.rules.context == "dance":
            frames = len(codes.upper) * per_code
            beats = torch.cat([song.beats, song.beats[-1:].expand(frames)])[:frames]
            whole = self._decode_and_reward(Codes(codes.upper[None], codes.lower[None]), beats[None])
            return {name: part[0].unfold(0, self.steps, 1)[:, 1:-1].cpu() for name, part in whole.items()}
        parts: list[dict[str, Tensor]] = []
        for start in range(0, len(windows.upper), self.batch_size):
            batch = slice(start, start + self.batch_size)
            actions = Codes(windows.upper[batch, 1:-1], windows.lower[batch, 1:-1])
            parts.append(self._decode_and_reward(actions, windows.beats[batch, per_code:-per_code]))
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}

    def _decode_and_reward(self, codes: Codes, beats: Tensor) -> dict[str, Tensor]:
        pose = self.memory.decode(Codes(codes.upper.to(self.device), codes.lower.to(self.device)))
        return reward(pose, beats.to(self.device), self.memory.frames_per_code, self.rules)


_RENAMED = {"piece": "song", "earned": "rewards"}  # entries of checkpoints of formats 1 and 2


class WindowBatch(NamedTuple):
    """A batch of windows, the reward (B, S - 2) of their actions, and the network that it updates."""

    windows: Windows
    reward: Tensor
    updates_policy: bool


class WindowBatches:
    """The batches of an epoch: windows in random order; policy and value updates alternate.

    Args:
        rollouts: the dances of the epoch.
        songs: the target songs.
        batches: indices of the windows of each batch, over all processes.
        turn: number of batches that update the policy before as many update the value.
        pinned: whether batches lie in page-locked memory, from which a GPU copies asynchronously.
    """

    def __init__(
        self,
        rollouts: Sequence[Rollout],
        songs: Sequence[TargetSong],
        batches: Sequence[Sequence[int]],
        turn: int,
        pinned: bool,
    ) -> None:
        self.rollouts, self.songs, self.batches = rollouts, songs, batches
        self.turn, self.pinned, self.done = turn, pinned, 0
        self._windows = [(rollout, w) for rollout in rollouts for w in range(len(rollout.windows.upper))]

    def skip(self, done: int) -> None:
        """Leave out the first batches; whether the rest updates policy or value does not change."""
        self.done = done

    def names(self, batch: int) -> list[str]:
        """Return the dances whose windows are in a batch of the epoch, over all processes."""
        return sorted({self.songs[self._windows[index][0].song].name for index in self.batches[batch]})

    def __len__(self) -> int:
        return len(self.batches) - self.done

    def __iter__(self) -> Iterator[WindowBatch]:
        for number, indices in list(enumerate(self.batches))[self.done :]:
            chosen = [self._windows[index] for index in distributed.share(list(indices))]
            columns = zip(*([field[w] for field in rollout.windows] for rollout, w in chosen), strict=True)
            windows = Windows(*(torch.stack(column) for column in columns))
            rewards = torch.stack([rollout.rewards["reward"][w] for rollout, w in chosen])
            if self.pinned:
                windows, rewards = map_tensors(windows, torch.Tensor.pin_memory), rewards.pin_memory()
            yield WindowBatch(windows, rewards, number // self.turn % 2 == 0)
