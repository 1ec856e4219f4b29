"""Stage 3: train the motion GPT to predict the next codes from music. Bailando (CVPR 2022), section 3.4."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.clips import CodeClip, MusicClips
from datasets.sequences import PreparedData, feature_columns
from models.checkpoints import load_memory
from models.gpt import GPTConfig, MotionGPT, code_losses
from models.stages.base import GPTRunConfig, Stage, fingerprint_of_memory
from models.stages.sep_vqvae_root import encode_clips, encode_dances
from models.vqvae import ChoreographicMemory, Codes
from utils.training.trainer import Batches


class MotionGPTConfig(GPTRunConfig):
    """Config of stage motion_gpt."""

    model: GPTConfig = GPTConfig()
    """Architecture of the GPT; see GPTConfig."""


class MotionGPTStage(Stage):
    """Trains the GPT on the codes of real dances and their music."""

    name = "motion_gpt"
    Config = MotionGPTConfig
    config: MotionGPTConfig

    def __init__(self, config: MotionGPTConfig, device: torch.device) -> None:
        super().__init__(config, device)
        # Training needs the memory's codes only, so the velocity branch may be trained at the same time.
        evaluates = config.training.eval_every > 0
        path = Path(config.vqvae)
        self._memory = load_memory(path, config.made_by(path), velocity=evaluates).to(device)
        steps = config.data.clips.frames // self._memory.frames_per_code
        if steps != config.model.context + 1:
            raise ValueError(
                f"a clip of {config.data.clips.frames} frames is {steps} codes; the GPT's context of "
                f"{config.model.context} needs {config.model.context + 1} (data.clips.frames, model.context)"
            )
        check_rate(self.data.music_fps, self.data.fps, self._memory.frames_per_code, config.data.root)
        check_music(config.model, self.data)
        code_vectors = self._memory.code_vectors
        self.model = MotionGPT(
            config.model,
            self._memory.num_codes,
            self.data.num_features,
            self.data.frames_per_step,
            code_vectors[0].shape[1],
        ).to(device)
        self.trainable = self.model
        if config.model.embed == "codebook":
            self.model.base.set_codebooks(*code_vectors)
        if config.model.normalise_music and self.data.names("train"):  # else they are in the checkpoint
            self.model.set_music_statistics(*music_statistics(self.data, config.model.excluded_features))
        if config.model.clamp_music and self.data.names("train"):
            self.model.set_music_range(*music_range(self.data))

    @property
    def memory(self) -> ChoreographicMemory:
        """The frozen memory."""
        return self._memory

    @cached_property
    def clips(self) -> MusicClips:
        """The training clips, encoded."""
        assert isinstance(self.model, MotionGPT)
        per_code, reach = self.memory.frames_per_code, self.model.reach
        clips = MusicClips(self.data, "train", self.config.data.clips, per_code, reach)
        if self.config.data.clips.codes == "per_clip":
            clips.set_codes(*encode_clips(self.memory, clips.poses, self.device))
        else:
            clips.set_codes(*encode_dances(self.memory, clips.poses))
        return clips

    def batches(self, epoch: int) -> Batches:
        """Return batches of CodeClip."""
        return self.loader(self.clips, epoch)

    def loss(self, batch: CodeClip) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the cross-entropy of the next codes, upper plus lower; music is one step ahead of codes."""
        upper, lower, music = (x.to(self.device, non_blocking=True) for x in batch)
        logits = self.trainable(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))
        loss_upper, loss_lower = code_losses(logits, Codes(upper[:, 1:], lower[:, 1:]))
        loss = loss_upper.mean() + loss_lower.mean()
        return loss, {
            "loss": loss,
            "cross_entropy_upper": loss_upper.mean(),
            "cross_entropy_lower": loss_lower.mean(),
        }

    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Evaluate dances to the test songs."""
        assert isinstance(self.model, MotionGPT)
        if self.memory.velocity is None:
            raise ValueError(
                f"{self.config.vqvae} is a memory without its velocity branch: enough to train a GPT, but "
                "dances need one; name a checkpoint of stage sep_vqvae_root (key vqvae)"
            )
        evaluation = self.evaluation()
        rows = {
            "random codes": evaluation.random_codes(),
            "memory": evaluation.reconstructions(),
            "GPT": evaluation.generated(self.model, self.config.generation),
        }
        return evaluation.report(folder, rows, shown="GPT", title=self.config.name)

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Hashes of the data and of the memory."""
        return {**super().built_on, "vqvae": fingerprint_of_memory(self.memory)}

    def architecture(self) -> dict[str, Any]:
        """Return the GPT's architecture and the version of its music features."""
        assert isinstance(self.model, MotionGPT)
        return {**self.model.architecture(), "music": self.data.feature_version}

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:
        """Check the music features, the number of heads, the kind of attention, and what enters the GPT.

        Raises:
            ValueError: if one differs from the data or the config.
        """
        check_features(architecture, self.data.feature_version, path, self.config.data.root)
        gpt, model = architecture["gpt"], self.config.model
        if gpt["heads"] != model.heads:
            raise ValueError(
                f"{path} has {gpt['heads']} attention heads, the config's model.heads is {model.heads}"
            )
        for key in ("cross_conditional", "embed", "clamp_music"):
            then, now = gpt.get(key, GPTConfig.model_fields[key].default), getattr(model, key)
            if then != now:
                raise ValueError(
                    f"{path} was trained with model.{key} {_yaml(then)}, the config says {_yaml(now)}; "
                    "restore it, or train under another name (name=...)"
                )


def _yaml(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def check_rate(music_fps: float, fps: float, frames_per_code: int, root: str) -> None:
    """Raise ValueError unless there is one music step per code."""
    if abs(music_fps * frames_per_code - fps) > 1e-6:
        raise ValueError(
            f"{root} holds music at {music_fps} steps per second, the memory makes "
            f"{fps / frames_per_code} codes per second; "
            f"prepare the data with --music-fps {fps / frames_per_code}"
        )


def check_music(config: GPTConfig, data: PreparedData) -> None:
    """Raise ValueError unless the data hold music at the rate that the GPT needs."""
    has_frames, needs_frames = data.frames_per_step > 1, config.music_transformer is not None
    if has_frames != needs_frames:
        why = "needs" if needs_frames else "null takes"
        features = "frames" if needs_frames else "beat_phase"
        raise ValueError(
            f"model.music_transformer {why} music of {'several frames' if needs_frames else 'one step'} per "
            f"code, {data.root} holds {data.feature_version!r} features; prepare the data with "
            f"--features {features} --out DIR and name it (data.root)"
        )


def check_features(architecture: Mapping[str, Any], data_version: str, path: Path, root: str) -> None:
    """Raise ValueError unless the checkpoint was trained on the version of features that the data holds."""
    trained_on = architecture["music"]
    if trained_on != data_version:
        raise ValueError(
            f"{path} was trained on {trained_on!r} music features, {root} holds {data_version!r} ones; "
            f"prepare the data with --features {trained_on}"
        )


def music_statistics(data: PreparedData, excluded: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Return mean and scaled std (D,) of the training songs' features, for `normalise_music`.

    The std is scaled such that each group of columns has a total variance of 1: the single beat column weighs
    as much as the 20 MFCC. With several frames in a step D are the features of a frame. A nearly constant
    column must not be amplified on other songs, so its std is at least a tenth of its group's root mean
    square. Silent groups are not scaled; the std of excluded groups is infinite, which makes their normalised
    features 0.

    Raises:
        ValueError: if no training dance has the features of its song.
    """
    music = training_music(data).astype(np.float64)
    music = music.reshape(len(music) * data.frames_per_step, -1)
    std = music.std(0)
    for name, columns in feature_columns(data.feature_version).items():
        if name in excluded:
            std[columns] = np.inf
            continue
        group = std[columns]
        typical = float(np.sqrt(np.mean(group**2)))
        std[columns] = np.maximum(group, 0.1 * typical) * np.sqrt(len(group)) if typical > 1e-6 else 1.0
    return torch.from_numpy(music.mean(0)), torch.from_numpy(std)


def music_range(data: PreparedData) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value (D,) of each feature over the training songs, for `clamp_music`.

    Raises:
        ValueError: if no training dance has the features of its song.
    """
    music = training_music(data)
    return torch.from_numpy(music.min(0)), torch.from_numpy(music.max(0))


def training_music(data: PreparedData) -> np.ndarray:
    """Return the features (N, D) of all training songs, one after the other.

    Raises:
        ValueError: if no training dance has the features of its song.
    """
    songs = sorted({data.sequence(name).song for name in data.names("train")} & set(data.songs))
    features = [data.song(song).features for song in songs]
    if not sum(map(len, features)):
        raise ValueError(
            f"none of the {len(data.names('train'))} training dances in {data.root} has the features of its "
            "song, which the GPT is conditioned on; prepare the data with their songs (--songs DIR)"
        )
    return np.concatenate(features)
