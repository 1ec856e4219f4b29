"""Windows of real sequences: clips of poses for the memory, clips of codes and music for the motion GPT.

Source: the published system's loaders. Windows never reach beyond the dance or its song.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor
from torch.utils.data import Dataset

from datasets.sequences import PreparedData, Sequence
from utils.config import ConfigModel
from utils.motion import joints_to_pose, root_velocity


class ClipsConfig(ConfigModel):
    """Windows of the training dances."""

    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {"starts": {"released": "published"}}

    frames: PositiveInt = 240
    """Length of a clip in frames."""
    hop: PositiveInt = 40
    """Frames between the starts of clips."""
    codes: Literal["per_clip", "whole_dance"] = "per_clip"
    """Encoding of the motion GPT's clips. `per_clip` encodes each clip alone, as published: zero padding
    changes the codes near its edges from those of the whole dance, with which generation starts.
    `whole_dance` cuts them out of the codes of the whole dance."""
    order: Literal["each_once", "with_replacement"] = "each_once"
    """`each_once` shuffles the clips of an epoch. `with_replacement` draws that number of clips, as
    published."""
    starts: Literal["all", "published"] = "all"
    """`all` uses all clips of a dance. `published` applies to the motion GPT: its published loop compares
    music steps with frames, so only clips that start within the first eighth of a dance are used."""
    implausible: Literal["keep", "leave_out"] = "keep"
    """`leave_out` drops clips with motion that no body makes or a T-pose, as the manifest of the data names
    them; `keep` uses them, as published."""


class Place(NamedTuple):
    """Position of a clip: the index of its sequence, and its first frame."""

    sequence: int
    start: int


def usable_frames(sequence: Sequence) -> int:
    """Return the number of frames that both dance and song have; without a song, those of the dance."""
    return min(len(sequence.joints), len(sequence.beats)) if len(sequence.beats) else len(sequence.joints)


def clip_starts(
    frames: int, config: ClipsConfig, music_steps: int | None = None, frames_per_code: int = 1
) -> list[int]:
    """Return the first frames of all clips in a dance of `frames` frames.

    With music steps given, a clip also needs its steps of music, and the config's `starts` applies.
    """
    starts = range(0, frames - config.frames + 1, config.hop)
    if music_steps is None:
        return list(starts)
    within = music_steps * frames_per_code - config.frames
    if config.starts == "published":
        within = min(within, music_steps - 1)  # As published, though: steps are compared with frames.
    return [start for start in starts if start <= within]


def training_poses(data: PreparedData) -> Tensor:
    """Return the poses (N, J*3) of all frames of the training dances, in metres."""
    sequences = (data.sequence(name) for name in data.names("train"))
    return torch.cat([joints_to_pose(torch.from_numpy(np.array(s.joints))) for s in sequences]).float()


def training_velocities(data: PreparedData) -> Tensor:
    """Return the root velocities (N, 3) of all frames of the training dances, in metres per frame."""
    sequences = (data.sequence(name) for name in data.names("train"))
    return torch.cat([root_velocity(torch.from_numpy(np.array(s.joints[:, 0]))) for s in sequences]).float()


def training_rotations(data: PreparedData) -> Tensor:
    """Return the bone rotations (N, J, 3, 3) of all frames of the training dances.

    Raises:
        ValueError: if the data hold no rotations of one of them.
    """
    return torch.cat([torch.from_numpy(np.array(data.rotations(name))) for name in data.names("train")])


def clip_places(
    data: PreparedData, sequences: list[Sequence], config: ClipsConfig, frames_per_code: int | None = None
) -> list[Place]:
    """Return the positions of all clips of sequences; with frames per code given, of those with music.

    Raises:
        ValueError: if the config leaves motion out that is no dance, and the data do not name it.
    """
    places = []
    for i, sequence in enumerate(sequences):
        steps = None if frames_per_code is None else len(sequence.music)
        starts = clip_starts(usable_frames(sequence), config, steps, frames_per_code or 1)
        broken = data.implausible(sequence.name) if config.implausible == "leave_out" else []
        places += [
            Place(i, start)
            for start in starts
            if all(last < start or first >= start + config.frames for first, last in broken)
        ]
    return places


class PoseClips(Dataset[Tensor]):
    """Clips of poses (frames, J*3); the root slot holds the root position.

    Raises:
        ValueError: if no sequence is long enough for one clip.
    """

    def __init__(self, data: PreparedData, split: str, config: ClipsConfig) -> None:
        self.config = config
        self.sequences = [data.sequence(name) for name in data.names(split)]
        self.places = clip_places(data, self.sequences, config)
        if not self.places:
            raise ValueError(
                f"no sequence of split {split!r} in {data.root} has the {config.frames} frames of a clip "
                f"(keys data.clips.frames {config.frames}, data.clips.implausible {config.implausible})"
            )

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""
        return self.sequences[self.places[index].sequence].name

    def __getitem__(self, index: int) -> Tensor:
        sequence, start = self.places[index]
        joints = self.sequences[sequence].joints[start : start + self.config.frames]
        return joints_to_pose(torch.from_numpy(np.array(joints, dtype=np.float32)))


class CodeClip(NamedTuple):
    """A clip for the motion GPT: codes (S,) of both halves and music (S + 2 * reach, D), step by step."""

    upper: Tensor
    lower: Tensor
    music: Tensor


class MusicClips(Dataset[CodeClip]):
    """The same clips as codes and music; `set_codes` must be called before clips are read.

    Args:
        data: prepared data.
        split: of the sequences.
        config: which clips.
        frames_per_code: frames per code.
        reach: steps of music before and after each clip; zeros where the song has none.

    Raises:
        ValueError: if no sequence has a clip's frames and music.
    """

    def __init__(
        self, data: PreparedData, split: str, config: ClipsConfig, frames_per_code: int, reach: int = 0
    ) -> None:
        self.steps, self.reach = config.frames // frames_per_code, reach
        self.frames_per_code = frames_per_code
        self.poses = PoseClips(data, split, config)
        self.poses.places = clip_places(data, self.poses.sequences, config, frames_per_code)
        if not self.poses.places:
            with_music = sum(len(sequence.music) > 0 for sequence in self.poses.sequences)
            raise ValueError(
                f"no clip of {config.frames} frames with their music in split {split!r} of {data.root}: "
                f"{with_music} of its {len(self.poses.sequences)} dances have the features of their song; "
                "prepare the data with their songs (--songs DIR), or shorten data.clips.frames"
            )
        self._codes: tuple[Tensor, Tensor] | None = None

    def set_codes(self, upper: Tensor, lower: Tensor) -> None:
        """Set the codes (N, S) of both halves of all clips, in order."""
        assert upper.shape == lower.shape == (len(self), self.steps), (upper.shape, len(self), self.steps)
        self._codes = upper.cpu(), lower.cpu()

    def __len__(self) -> int:
        return len(self.poses)

    def name(self, index: int) -> str:
        """Return the name of the sequence that a clip is from."""
        return self.poses.name(index)

    def __getitem__(self, index: int) -> CodeClip:
        assert self._codes is not None, "codes are set before clips are read"
        sequence, start = self.poses.places[index]
        first = start // self.frames_per_code
        song, before = self.poses.sequences[sequence].music, min(first, self.reach)
        part = np.array(song[first - before : first + self.steps + self.reach], dtype=np.float32)
        music = with_context(torch.from_numpy(part), before, self.steps, self.reach)
        upper, lower = self._codes
        return CodeClip(upper[index], lower[index], music)


def whole_music(features: np.ndarray, frames: int = 0, frames_per_step: int = 1) -> Tensor:
    """Return a song's features (1, N, D) for generation, the last step or frame repeated once, as published.

    Args:
        features: (T', D) of the whole song.
        frames: length of the song in frames, for features with several frames in a step.
        frames_per_step: how many frames a step holds.

    Returns:
        N = T' + 1 steps; of features with several frames in a step as many as hold the song's frames and one
        more, filled up by zeros.
    """
    music = torch.from_numpy(np.array(features, dtype=np.float32))
    if frames_per_step == 1:
        return torch.cat([music, music[-1:]]).unsqueeze(0)
    single = music.unflatten(1, (frames_per_step, -1)).flatten(0, 1)[:frames]
    padding = -(len(single) + 1) % frames_per_step
    single = torch.cat([single, single[-1:], single.new_zeros(padding, single.shape[1])])
    return single.unflatten(0, (-1, frames_per_step)).flatten(1).unsqueeze(0)


def with_context(music: Tensor, start: int, steps: int, reach: int) -> Tensor:
    """Return the steps (steps + 2 * reach, D) of a song (N, D) around a window; zeros where there is none.

    Args:
        music: of the whole song.
        start: first step of the window.
        steps: length of the window.
        reach: steps before and after it.
    """
    first, last = start - reach, start + steps + reach
    inside = music[max(first, 0) : max(last, 0)]
    before = min(max(-first, 0), steps + 2 * reach)
    after = steps + 2 * reach - before - len(inside)
    return F.pad(inside, (0, 0, before, after)) if before or after else inside


def epoch_order(length: int, order: str, seed: int, epoch: int) -> list[int]:
    """Return the indices of an epoch, drawn by a generator that is seeded from seed and epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    if order == "each_once":
        return torch.randperm(length, generator=generator).tolist()
    return torch.randint(length, (length,), generator=generator).tolist()


def epoch_batches(length: int, size: int, order: str, seed: int, epoch: int) -> list[list[int]]:
    """Return the indices of an epoch's batches; a last, smaller one is dropped unless it is the only one."""
    indices = epoch_order(length, order, seed, epoch)
    size = min(size, length)
    return [indices[start : start + size] for start in range(0, length - size + 1, size)]
