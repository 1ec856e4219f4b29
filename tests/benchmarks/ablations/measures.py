"""What the tables show besides the metrics of an evaluation; from its dances and, where needed, the model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.clips import MusicClips, usable_frames
from datasets.sequences import PreparedData
from models.gpt import code_losses
from models.reward import consistency_reward
from models.stages.base import Stage
from models.stages.motion_gpt import MotionGPTStage
from models.stages.sep_vqvae_root import encode_dances
from models.vqvae import ChoreographicMemory, Codes
from utils.dance import load_dance
from utils.motion import joints_to_pose

SAME_POSE = 0.05  # metres, mean over joints: closer poses count once
SHOWN = {"memory": "memory (real root)", "root": "memory", "gpt": "GPT", "critic": "actor-critic"}
CONTROLS = {"real": "real", "random codes": "random codes", "floor": "floor"}


def measured(kind: str, stage: Stage, evaluation: Path) -> dict[str, Any]:
    """All numbers of a judged run: of its dances, and of the controls beside them.

    Args:
        kind: `memory`, `root`, `gpt` or `critic`.
        stage: with its trained model.
        evaluation: the folder that --eval filled.
    """
    rows = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))["rows"]
    numbers = {name: x for name, x in rows[SHOWN[kind]].items() if isinstance(x, int | float)}
    dances = read_dances(evaluation / "motions" / SHOWN[kind].replace(" ", "_"))
    real = {name: np.array(stage.data.sequence(name).joints[: len(d[0])]) for name, d in dances.items()}
    codes = np.concatenate([dance[1] for dance in dances.values()])
    controls = {
        short: rows[row] for short, start in CONTROLS.items() for row in rows if row.startswith(start)
    }
    controls["real"] = dict(rows["real"]) | {"travel": 1.0}
    for name, joints in (("real", list(real.values())), ("", [dance[0] for dance in dances.values()])):
        into = controls["real"] if name else numbers
        into["acceleration"] = float(np.mean([acceleration(each) for each in joints]))
        into["agreement"] = float(np.mean([agreement(each) for each in joints]))
    if kind in ("memory", "root"):
        numbers |= of_memory(stage.memory, codes)
    if kind == "root":
        numbers |= of_root([(real[name], dance[0]) for name, dance in dances.items()])
    if kind == "gpt":
        numbers["test_nats"] = test_nats(stage)
    if kind in ("gpt", "critic"):
        known = training_pairs(stage.memory, stage.data)
        numbers["pairs_known"] = share_known(codes, known)
        truth = [encoded(stage.memory, stage.data, name) for name in dances]
        controls["real"]["pairs_known"] = share_known(np.concatenate(truth), known)
    return {"metrics": numbers, "controls": controls}


def read_dances(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Joints (T, 24, 3) and codes (T', 2) of an evaluation's dances, by name."""
    dances = {}
    for path in sorted(folder.glob("*.npz")):
        dance = load_dance(path)
        assert dance.codes is not None, f"{path} holds no codes"
        dances[path.stem] = dance.joints, dance.codes
    return dances


def acceleration(joints: np.ndarray, fps: float = 60) -> float:
    """Mean length of the second difference of joints (T, 24, 3), m/s²."""
    return float(np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1).mean() * fps**2)


def agreement(joints: np.ndarray, frames_per_code: int = 8) -> float:
    """Mean of the reward's consistency of halves of joints (T, 24, 3), over whole codes; at most 1."""
    frames = len(joints) // frames_per_code * frames_per_code
    pose = joints_to_pose(torch.from_numpy(np.ascontiguousarray(joints[:frames], dtype=np.float32)))
    return float(consistency_reward(pose.unsqueeze(0), frames_per_code).mean())


def perplexity(codes: np.ndarray) -> float:
    """The exponential of the entropy of codes (N,)."""
    share = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(share * np.log(share)).sum()))


def of_memory(memory: ChoreographicMemory, codes: np.ndarray) -> dict[str, float]:
    """Codes and what they decode to; codes (N, 2) of the test dances."""
    sizes = memory.num_codes
    used = [len(np.unique(codes[:, half])) / sizes[half] for half in (0, 1)]
    whole = memory.upper is None
    distinct = [distinct_poses(poses) for poses in code_poses(memory)]
    return {
        "combinations": float(sizes[1] if whole else sizes[0] * sizes[1]),
        "distinct_poses": float(np.prod(distinct)),
        "perplexity_upper": perplexity(codes[:, 0]),
        "perplexity_lower": perplexity(codes[:, 1]),
        "used": float(np.mean(used)),
    }


@torch.no_grad()
def code_poses(memory: ChoreographicMemory, held: int = 8) -> list[Tensor]:
    """Of each codebook (upper and lower, or whole), the pose (K, j, 3) in the middle of each code, held."""
    found = []
    for half in memory.halves.values():
        codes = torch.arange(half.quantizer.num_codes).unsqueeze(1).expand(-1, held)
        motion = torch.cat([half.decode(part) for part in codes.split(64)])
        found.append(motion[:, motion.shape[1] // 2].unflatten(-1, (-1, 3)))
    return found


def distinct_poses(poses: Tensor, same: float = SAME_POSE) -> int:
    """How many of the poses (K, j, 3) differ from all counted before by `same` metres or more."""
    distances = (poses[:, None] - poses[None]).norm(dim=-1).mean(-1)
    counted: list[int] = []
    for pose in range(len(poses)):
        if not counted or bool((distances[pose, counted] >= same).all()):
            counted.append(pose)
    return len(counted)


def of_root(pairs: Sequence[tuple[np.ndarray, np.ndarray]], fps: int = 60) -> dict[str, float]:
    """Real and made joints (T, 24, 3) -> how far the root is off in the last second, and how far it goes."""
    off, travel = [], []
    for real, made in pairs:
        paths = [dance[:, 0] - dance[:1, 0] for dance in (real, made)]
        off.append(np.linalg.norm(paths[0] - paths[1], axis=-1)[-fps:].mean())
        travel.append([np.linalg.norm(np.diff(p[:, [0, 2]], axis=0), axis=-1).sum() for p in paths])
    walked = np.array(travel)
    return {
        "root_drift_mm": 1000 * float(np.mean(off)),
        "travel": float(walked[:, 1].sum() / walked[:, 0].sum()),
    }


@torch.no_grad()
def test_nats(stage: Stage) -> float:
    """Mean cross-entropy of the next code pair of the test dances, both halves added, in nats."""
    assert isinstance(stage, MotionGPTStage)
    whole = {"starts": "all", "hop": stage.config.data.clips.frames}
    clips = stage.config.data.clips.model_copy(update=whole)
    reach = stage.model.reach
    test = MusicClips(stage.data, "test", clips, stage.memory.frames_per_code, reach)
    test.set_codes(*encode_dances(stage.memory, test.poses))
    losses = []
    for upper, lower, music in torch.utils.data.DataLoader(test, batch_size=32):
        logits = stage.model(music[:, 1:], Codes(upper[:, :-1], lower[:, :-1]))
        losses.append(sum(code_losses(logits, Codes(upper[:, 1:], lower[:, 1:]))))
    return float(torch.cat(losses).mean())


def encoded(memory: ChoreographicMemory, data: PreparedData, name: str) -> np.ndarray:
    """Codes (T', 2) of a real dance."""
    sequence = data.sequence(name)
    return torch.stack(memory.encode_dance(sequence.joints[: usable_frames(sequence)]), 1).numpy()


def training_pairs(memory: ChoreographicMemory, data: PreparedData) -> set[tuple[int, int]]:
    """Upper and lower codes that the training dances have at the same time."""
    return {tuple(pair) for name in data.names("train") for pair in encoded(memory, data, name).tolist()}


def share_known(codes: np.ndarray, known: set[tuple[int, int]]) -> float:
    """The share of code pairs (N, 2) among the known ones."""
    return float(np.mean([tuple(pair) in known for pair in codes.tolist()]))
