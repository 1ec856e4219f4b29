"""Decoded rotations against a body fitted to decoded positions: accuracy, smoothness, and time to SMPL.

    python -m tests.benchmarks.rotations --data data/sample --memory CHECKPOINT.pt [...] [--dances 40]

Each memory (a checkpoint of stage sep_vqvae_root_mix) encodes and decodes the dances of the split, which have
rotations. Rows: joints of the position decoders; the body that is fitted to them; joints and rotations of the
rotation decoders. Joint errors are relative to the root; rotation errors are angles between a joint's
rotation relative to its parent's and the real one, over the joints that move others. `turn_deg` is the
largest angle that a joint turns in one frame, the median over the dances. Both ways to SMPL run in turn on
each dance, from its codes to the file; their seconds are processor time, which other load hardly changes.
With several memories numbers are mean ± standard deviation over them.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from datasets.clips import usable_frames
from datasets.sequences import PreparedData
from models.checkpoints import load_memory
from models.vqvae import ChoreographicMemory
from utils.dance import Dance
from utils.dance_formats import WriterInput, write_smpl
from utils.export.chain import children
from utils.export.fit import Fit, fastest_turn, fitted_joints, quaternions_of
from utils.metrics.physical import jitter
from utils.metrics.table import format_table
from utils.skeleton import SMPL_24

T = TypeVar("T")
MOVING = [joint for joint, below in enumerate(children(SMPL_24)) if below]
ROWS = ("positions", "positions, fitted body", "rotations")


class Measures(NamedTuple):
    """What is measured of one dance in one row; nan where it has none.

    Attributes:
        joint_mm: mean distance of the joints, relative to the root, from the real ones.
        jitter: mean jerk in m/s³.
        rotation_deg: mean angle of the rotations of moving joints to the real ones.
        turn_deg: largest angle that a joint turns in one frame.
        to_smpl_s: seconds of processor time from codes to the SMPL file.
    """

    joint_mm: float
    jitter: float
    rotation_deg: float = float("nan")
    turn_deg: float = float("nan")
    to_smpl_s: float = float("nan")


def joint_error(joints: np.ndarray, real: np.ndarray) -> float:
    """Mean distance in mm of joints (T, J, 3) relative to the root, the root left out."""
    difference = (joints - joints[:, :1]) - (real - real[:, :1])
    return 1000 * float(np.linalg.norm(difference[:, 1:], axis=-1).mean())


def rotation_error(rotations: Rotation, real: Rotation) -> float:
    """Mean angle in degrees between rotations."""
    return float(np.degrees((rotations.inv() * real).magnitude()).mean())


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a piece of work returns, and its seconds of processor time."""
    start = time.process_time()
    return work(), time.process_time() - start


def smpl_of(dance: Dance) -> Fit:
    """Write a dance as SMPL parameters; returns the body in the file."""
    with tempfile.TemporaryDirectory() as folder:
        given = WriterInput(dance)
        write_smpl(Path(folder) / "a_smpl.npz", given)
        return given.smpl_body[0]


@torch.no_grad()
def measure(memory: ChoreographicMemory, joints: np.ndarray, rotations: np.ndarray) -> dict[str, Measures]:
    """All rows of one real dance, joints (T, 24, 3) and rotations (T, 24, 3, 3)."""
    codes, frames = memory.encode_dance(joints), len(joints)
    turns = Rotation.from_matrix(rotations[:, MOVING].reshape(-1, 3, 3))

    def by_fit() -> tuple[np.ndarray, Fit]:
        positions = memory.decode_dance(codes).numpy()[:frames]
        return positions, smpl_of(Dance("a", positions))

    def by_rotations() -> tuple[np.ndarray, Fit]:
        motion = memory.decode_motion(codes)
        assert motion.rotations is not None
        decoded = motion.joints.numpy()[:frames]
        return decoded, smpl_of(Dance("a", decoded, rotations=motion.rotations.numpy()[:frames]))

    def row(points: np.ndarray, body: Fit, seconds: float) -> Measures:
        own = Rotation.from_quat(body.rotations[:, MOVING].reshape(-1, 4))
        turn = fastest_turn(body.rotations).degrees
        error = rotation_error(own, turns)
        return Measures(joint_error(points, joints), jitter(points), error, turn, seconds)

    (positions, fit), slow = timed(by_fit)
    (decoded, body), fast = timed(by_rotations)
    return {
        "positions": Measures(joint_error(positions, joints), jitter(positions)),
        "positions, fitted body": row(fitted_joints(fit), fit, slow),
        "rotations": row(decoded, body, fast),
    }


def summary(dances: list[dict[str, Measures]]) -> dict[str, dict[str, float]]:
    """Row -> column -> the value over dances: medians of turns, else means."""
    found: dict[str, dict[str, float]] = {}
    for name in ROWS:
        columns = zip(Measures._fields, zip(*(dance[name] for dance in dances), strict=True), strict=True)
        found[name] = {
            column: statistics.median(values) if column == "turn_deg" else statistics.fmean(values)
            for column, values in columns
        }
    return found


def table(memories: list[dict[str, dict[str, float]]], real: dict[str, float]) -> str:
    """The rows of all memories as Markdown, and that of the real dances."""

    def cell(values: list[float]) -> str:
        if np.isnan(values).any():
            return "-"
        spread = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3g}{spread}"

    rows = {
        name: {column: cell([memory[name][column] for memory in memories]) for column in Measures._fields}
        for name in ROWS
    }
    return format_table(
        {**rows, "real": {key: f"{value:.3g}" for key, value in real.items()}}, Measures._fields
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 1 if rotations are not ten times faster to SMPL than the fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data/sample"))
    parser.add_argument("--memory", type=Path, nargs="+", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dances", type=int, default=40)
    options = parser.parse_args(arguments)
    data = PreparedData(options.data)
    names = data.names(options.split)[: options.dances]
    sequences = [data.sequence(name) for name in names]
    joints = [np.array(some.joints[: usable_frames(some)]) for some in sequences]
    rotations = [np.array(data.rotations(name)[: len(own)]) for name, own in zip(names, joints, strict=True)]
    real = {
        "jitter": statistics.fmean(map(jitter, joints)),
        "turn_deg": statistics.median(fastest_turn(quaternions_of(own)).degrees for own in rotations),
    }
    memories = []
    for path in options.memory:
        memory = load_memory(path, "python main.py --config configs/sep_vqvae_root_mix.yaml --train", True)
        dances = [measure(memory, *pair) for pair in zip(joints, rotations, strict=True)]
        memories.append(summary(dances))
    print(f"{len(names)} dances of split {options.split!r}, {len(memories)} memories\n")
    print(table(memories, real))
    slow, fast = (statistics.fmean(memory[name]["to_smpl_s"] for memory in memories) for name in ROWS[1:])
    print(f"\nfrom codes to SMPL: {slow / fast:.1f} times faster than by the fit (target 10)")
    return 0 if slow >= 10 * fast else 1


if __name__ == "__main__":
    sys.exit(main())
