"""A tiny data set out of random numbers alone, and configs that name every size.

Neither the sample corpus nor librosa nor the shipped YAMLs have a part in it: recorded losses outlive them.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from datasets.sequences import (
    beats_path,
    features_path,
    motion_path,
    num_features,
    rotations_path,
    write_array,
    write_manifest,
)
from models.stages.base import RunConfig, Stage
from models.stages.registry import STAGES
from tests.models.rounding import in_float64
from utils.config import check
from utils.training import distributed
from utils.training.trainer import Trainer, seed_everything

FRAMES, DANCES, STEPS = 480, 6, 20
NUM_FEATURES = num_features("standard")
# Clips whose starts differ by a multiple of 8 frames share latents, which are equally far from codes put on
# two of them: where a codebook learns, clips start elsewhere, so that no rounding decides which code is
# nearest.
HOP, HOP_OF_MEMORY = 48, 47
ORDER = ("sep_vqvae", "sep_vqvae_root", "motion_gpt", "actor_critic", "sep_vqvae_root_mix")
CONV = {"width": 8, "downsamplings": 3, "depth": 1, "dilation_growth": 3, "hidden_multiplier": 1.0}
# A count that starts at 1 and gets one latent is 0.9 + 0.1: a threshold of 1 would leave it to rounding
# whether that code is restarted.
BOOK = {"dim": 12, "decay": 0.9, "dead_code_threshold": 0.95, "restarts": "reset"}
GPT: dict[str, Any] = {
    "width": 16,
    "heads": 2,
    "base_blocks": 1,
    "head_blocks": 1,
    "context": 29,
    "dropout": 0.1,
}
MUSIC_TRANSFORMER = {"width": 16, "heads": 2, "blocks": 2, "reach": 2, "dropout": 0.1}
WITH_MUSIC = {"motion_gpt": {"model": {**GPT, "music_transformer": MUSIC_TRANSFORMER}}}
SIZES: dict[str, dict[str, Any]] = {
    "sep_vqvae": {"model": {"codes_upper": 24, "codes_lower": 16, "codebook": BOOK, "conv": CONV}},
    "sep_vqvae_root": {},
    "motion_gpt": {"model": GPT},
    "actor_critic": {"value": {"blocks": 1}, "turn": 2, "songs": "test"},
    "sep_vqvae_root_mix": {},
}
TRAINING = {
    "sep_vqvae": {"batch_size": 4, "epochs": 4, "lr": 1e-3, "betas": [0.5, 0.999]},
    "sep_vqvae_root": {"batch_size": 4, "epochs": 4, "lr": 1e-3},
    "motion_gpt": {"batch_size": 4, "epochs": 4, "lr": 1e-3, "betas": [0.5, 0.999], "milestones": [1]},
    "actor_critic": {"batch_size": 8, "epochs": 3, "lr": 1e-3, "betas": [0.5, 0.999]},
    "sep_vqvae_root_mix": {"batch_size": 4, "epochs": 4, "lr": 1e-3, "betas": [0.5, 0.999]},
}


def make_data(root: Path, version: str = "standard") -> Path:
    """Dances that wander at random to noise with a beat every half second; the first two are for testing."""
    columns = num_features(version)
    generator = np.random.default_rng(0)
    names = [f"dance{i}" for i in range(DANCES)]
    for i, name in enumerate(names):
        steps = generator.integers(-8, 9, (FRAMES, 24, 3)).cumsum(0) / 1024
        joints = generator.integers(-512, 513, (1, 24, 3)) / 1024 + steps
        write_array(motion_path(root, name), joints.astype(np.float32))
        own = np.random.default_rng(i)
        vectors = (
            own.integers(-64, 65, (1, 24, 3)) / 64 + own.integers(-8, 9, (FRAMES, 24, 3)).cumsum(0) / 1024
        )
        turns = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix()
        write_array(rotations_path(root, name), turns.reshape(FRAMES, 24, 3, 3).astype(np.float32))
        features = generator.integers(-64, 65, (FRAMES // 8, columns)) / 64
        write_array(features_path(root, f"song{i}"), features.astype(np.float32))
        write_array(beats_path(root, f"song{i}"), np.arange(FRAMES) % 30 == i)
    write_manifest(
        root,
        {
            "name": "noise",
            "skeleton": "smpl_24",
            "fps": 60,
            "music": {"version": version, "fps": 7.5, "columns": columns},
            "splits": {"train": names[2:], "test": names[:2]},
            "sequences": {
                name: {"frames": FRAMES, "song": f"song{i}", "rotations": True}
                for i, name in enumerate(names)
            },
            "songs": {f"song{i}": {"features": FRAMES // 8, "beats": FRAMES} for i in range(DANCES)},
            "left_out": {},
        },
    )
    return root


def make_config(
    name: str,
    data_root: Path,
    output: Path,
    data: dict[str, Any] | None = None,
    before: Path | None = None,
    own: dict[str, Any] | None = None,
    dropout: float = GPT["dropout"],
    **training: Any,
) -> RunConfig:
    """The config of a stage on that data; earlier stages are in `output`, or in `before`.

    `own` are keys of the stage, `data` and the rest those of its sections.
    """
    hop = HOP_OF_MEMORY if name == "sep_vqvae" else HOP
    content: dict[str, Any] = {
        "stage": name, "name": name, "output": str(output), "seed": 1, "device": "cpu",
        "data": {"root": str(data_root), "clips": {"frames": 240, "hop": hop}, **(data or {})},
        "training": {**TRAINING[name], **training},
        "evaluation": {"plots": False, "players": 0, "videos": 1, "video_height": 64},
        **SIZES[name], **(own or {}),
    }  # fmt: skip
    if name != "sep_vqvae":
        memory = "sep_vqvae" if name == "sep_vqvae_root" else "sep_vqvae_root"
        content["vqvae"] = str((before or output) / memory / "ckpt" / "last.pt")
    if name == "actor_critic":
        content["gpt"] = str((before or output) / "motion_gpt" / "ckpt" / "last.pt")
    if name == "motion_gpt":
        content["model"] = {**content["model"], "dropout": dropout}
    return check(STAGES[name].Config, content, name)


def make_stage(name: str, root: Path, output: Path, **more: Any) -> Stage:
    """A stage; those before it must have been trained into `output`; more as in `make_config`."""
    config = make_config(name, root, output, **more)
    seed_everything(config.seed)
    return STAGES[name](config, torch.device("cpu"))


def make_trainer(name: str, root: Path, output: Path, **more: Any) -> tuple[Trainer, list[float]]:
    """A trainer, and the list its losses will be in; more as in `make_config`."""
    stage, losses = make_stage(name, root, output, **more), []
    plain = stage.loss

    def recorded(batch: Any) -> Any:
        loss, metrics = plain(batch)
        losses.append(float(loss.detach()))
        return loss, metrics

    stage.loss = recorded  # type: ignore[method-assign]
    return Trainer(stage, stage.config.training, stage.config.folder, "this test", stage.config.seed), losses


def train_all(
    root: Path, output: Path, own: dict[str, dict[str, Any]] | None = None, **more: Any
) -> dict[str, list[float]]:
    """Trains all stages, with keys of their own by stage; their losses."""
    found = {}
    for name in ORDER:
        trainer, losses = make_trainer(name, root, output, own=(own or {}).get(name), **more)
        trainer.run()
        found[name] = losses
    return found


def train_all_with_music(folder: Path) -> Path:
    """Trains all stages for an epoch, the GPT behind a music transformer: `data` and `runs` of the folder."""
    train_all(make_data(folder / "data", "frames"), folder / "runs", own=WITH_MUSIC, epochs=1)
    return folder


if __name__ == "__main__":  # for torchrun: folders of the data, of earlier stages, and of these runs
    distributed.start("cpu")
    data_root, before, output = map(Path, sys.argv[1:])
    with in_float64():
        train_all(data_root, output, before=before, dropout=0.0, log_every=1, lr=1e-5, eval_every=2)
    distributed.stop()
