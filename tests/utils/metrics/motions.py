"""Small made-up dances for the metric tests."""

from dataclasses import replace

import numpy as np

from utils.metrics import Dance, DanceFeatures, dance_features
from utils.smpl import rest_joints

REST = rest_joints()


def smooth_dance(seed: int = 0, seconds: float = 8.0, fps: float = 60, scale: float = 0.15) -> np.ndarray:
    """(T, 24, 3) float64: rest joints plus sines below 2 Hz; the same motion at any rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fps) + 1) / fps
    frequency = rng.uniform(0.3, 1.8, (5, 24, 3))
    phase = rng.uniform(0, 2 * np.pi, (5, 24, 3))
    size = rng.uniform(0.2, 1.0, (5, 24, 3)) * scale
    return REST + (size * np.sin(2 * np.pi * frequency * time[:, None, None, None] + phase)).sum(1)


def noisy_dance(seed: int = 0, frames: int = 60) -> np.ndarray:
    """(T, 24, 3) float64: poses far apart, each held for two frames: every test holds now and then."""
    rng = np.random.default_rng(seed)
    return REST + 0.6 * np.repeat(rng.normal(size=((frames + 1) // 2, 24, 3)), 2, axis=0)[:frames]


def made_up(num: int, seed: int = 0, prefix: str = "r") -> list[DanceFeatures]:
    """Dances with random features of the right shapes: the statistics of a set need no motion."""
    rng = np.random.default_rng(seed)
    like = dance_features(Dance("x", smooth_dance(seconds=1), np.arange(60) % 20 == 3))
    dances = []
    for i in range(num):
        kinetic, geometric = rng.lognormal(size=72), rng.uniform(size=32)
        dances.append(
            replace(
                like,
                name=f"{prefix}{i}",
                song=f"s{i % 4}",
                frames=600,
                kinetic=kinetic.astype(np.float32),
                geometric=geometric.astype(np.float32),
                kinetic_corrected=kinetic.astype(np.float32),
                geometric_corrected=geometric.astype(np.float32),
                motion_beats=np.arange(3 + i % 4 * 5, 600, 23),
                motion_times=np.arange(3 + i % 4 * 5, 600, 23) / 60,
                music_beats=np.arange(3 + i % 4 * 5, 600, 23),
            )
        )
    return dances
