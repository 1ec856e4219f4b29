"""From keys on beats to smooth curves over frames, in time with the music.

Curves run over beats through a time warp that slows every movement down around each beat, the whole body at
once: that is what makes a body look as if it hit the beat. Between keys they are monotone cubics, without
overshoot.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp


def warp(beats: np.ndarray, flow: float) -> np.ndarray:
    """Slow down around whole beats.

    Args:
        beats: (T,) musical time in beats.
        flow: share of the speed left on the beat, in (0, 1]; 1 leaves time alone.

    Returns:
        (T,) warped musical time; whole and half beats stay where they are.
    """
    return beats - (1.0 - flow) * np.sin(2 * np.pi * beats) / (2 * np.pi)


def scalar_curve(keys: dict[float, float], at: np.ndarray) -> np.ndarray:
    """Smooth (T,) curve through {beat: value}; constant before the first and after the last key."""
    beats = np.array(sorted(keys))
    values = np.array([keys[beat] for beat in beats], np.float64)
    return PchipInterpolator(beats, values)(np.clip(at, beats[0], beats[-1]))


def rotation_curve(keys: dict[float, Rotation], at: np.ndarray) -> Rotation:
    """Smooth curve of T rotations through {beat: rotation}.

    The half-way rotation of every two keys becomes a key too, so that neighbours are never far apart; then
    the matrices are interpolated and made orthogonal again.
    """
    beats = np.array(sorted(keys))
    rotations = Rotation.concatenate([keys[beat] for beat in beats])
    middles = (beats[1:] + beats[:-1]) / 2
    knots = np.sort(np.concatenate([beats, middles]))
    matrices = Slerp(beats, rotations)(knots).as_matrix()
    mixed = PchipInterpolator(knots, matrices.reshape(len(knots), 9))(np.clip(at, beats[0], beats[-1]))
    u, _, vt = np.linalg.svd(mixed.reshape(-1, 3, 3))
    return Rotation.from_matrix(u @ vt)


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 to 1 for x in [0, 1], starting and ending at rest and without acceleration."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 + x * (6.0 * x - 15.0))


def bump(x: np.ndarray) -> np.ndarray:
    """0 to 1 and back for x in [0, 1], starting and ending at rest."""
    x = np.clip(x, 0.0, 1.0)
    return 16.0 * x**2 * (1.0 - x) ** 2
