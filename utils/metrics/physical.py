"""Physical plausibility of a dance: feet, floor, jitter, freezing, bone lengths, and foot contact (PFC).

Sources: PFC from EDGE (Tseng et al., CVPR 2023, arXiv 2211.10658); foot skating after Guided Motion Diffusion
(Karunratanakul et al., ICCV 2023); jitter as the mean jerk. Everything is y up, metres, seconds.
"""

import math
from collections.abc import Callable

import numpy as np

from utils.floor import floor_height
from utils.metrics.checks import as_joints
from utils.skeleton import SMPL_24

PFC_FPS = 30.0  # the frame rate EDGE's published numbers are at
CONTACT_HEIGHT = 0.05  # metres above the floor below which a toe touches it
SKATE_SPEED = 0.5  # m/s along the floor above which a touching toe skates
STILL_SPEED = 0.05  # m/s of mean joint speed over a second below which the dance is frozen
ROUNDING = 1e-9  # m/s² below which an acceleration is a rounding error of 64-bit numbers

_FEET = [list(foot) for foot in SMPL_24.feet]
_FOOT_JOINTS = [joint for foot in SMPL_24.feet for joint in foot]
_TOES = [foot[-1] for foot in SMPL_24.feet]
_HORIZONTAL = [0, 2]


def _speed(p: np.ndarray, fps: float) -> np.ndarray:
    """Length of the steps, in m/s."""
    steps = np.diff(p, axis=0)
    return np.sqrt(np.einsum("...c,...c->...", steps, steps)) * fps


def resample(p: np.ndarray, fps: float, new_fps: float) -> np.ndarray:
    """Positions (T, ...) at another rate: every n-th frame if the rates divide, else linear between frames.

    Frame 0 stays where it is, and nothing is made up after the last frame.
    """
    if math.isclose(fps, new_fps, rel_tol=1e-9):
        return p
    step = fps / new_fps
    if math.isclose(step, round(step), rel_tol=1e-9):
        return p[:: round(step)]
    place = np.arange(math.floor((len(p) - 1) / step + 1e-9) + 1) * step
    before = np.minimum(place.astype(int), len(p) - 2) if len(p) > 1 else np.zeros(len(place), int)
    part = (place - before).reshape(-1, *[1] * (p.ndim - 1))
    return p[before] * (1 - part) + p[np.minimum(before + 1, len(p) - 1)] * part


def pfc(joints: np.ndarray, fps: float = 60, published: bool = True) -> float:
    """Physical foot contact score of EDGE: 1e4 · mean over t of a[t] · left[t] · right[t]; lower is better.

    a = length of the root's acceleration, downward part dropped, divided by its largest value in the dance
    (so it depends on the dance's length); left and right = how far the slower of that foot's joints moves
    along the floor in the second of the two steps that make the acceleration.

    Args:
        joints: (T, 24, 3) at `fps`.
        fps: frame rate in Hz.
        published: only the frames 1/30 s apart (EDGE's rate; metres per frame at 60 fps would score a
            quarter). Otherwise the fps-free form: steps of 1/30 s too, but from every frame there is. At 30
            fps both are the same number.

    Returns:
        The score; 0 if the root never accelerates, nan if the dance is shorter than two steps.

    Raises:
        ValueError: on wrong shapes or values.
    """
    p = as_joints(joints, fps)
    lag = 1 if published else max(1, round(fps / PFC_FPS))  # frames in 1/30 s
    p = resample(p, fps, PFC_FPS * lag)
    if len(p) <= 2 * lag:
        return math.nan
    steps = p[lag:] - p[:-lag]
    acceleration = (steps[lag:, 0] - steps[:-lag, 0]) * PFC_FPS**2
    acceleration[:, 1] = np.maximum(acceleration[:, 1], 0.0)
    size = np.sqrt(np.einsum("tc,tc->t", acceleration, acceleration))
    if size.max() < ROUNDING:
        return 0.0
    along = np.sqrt(steps[lag:, :, 0] ** 2 + steps[lag:, :, 2] ** 2)  # (T - 2 lag, J) metres
    left, right = (along[:, foot].min(1) for foot in _FEET)
    return float(1e4 * (size / size.max() * left * right).mean())


def foot_skate_ratio(joints: np.ndarray, fps: float = 60, floor: float | None = None) -> float:
    """Share of frames (0..1, lower is better) in which a toe touches the floor and still slides.

    A toe touches while it is less than 5 cm above the floor at both ends of a step; it slides when it covers
    more than 0.5 m/s along the floor in that step.

    Args:
        joints: (T >= 2, 24, 3).
        fps: frame rate in Hz.
        floor: height of the floor; estimated (`floor_height`) if None.
    """
    p = as_joints(joints, fps)
    toes = p[:, _TOES]
    down = toes[..., 1] < (floor_height(p, fps) if floor is None else floor) + CONTACT_HEIGHT
    sliding = _speed(toes[..., _HORIZONTAL], fps) > SKATE_SPEED
    return float((down[1:] & down[:-1] & sliding).any(1).mean())


def foot_penetration(joints: np.ndarray, fps: float = 60, floor: float | None = None) -> float:
    """Mean depth of the lowest foot joint below the floor in metres (>= 0, lower is better)."""
    p = as_joints(joints, fps)
    floor = floor_height(p, fps) if floor is None else floor
    return float(np.maximum(floor - p[:, _FOOT_JOINTS, 1].min(1), 0.0).mean())


def foot_float(joints: np.ndarray, fps: float = 60, floor: float | None = None) -> float:
    """Mean height of the lowest foot joint above the floor in metres (>= 0, lower is better).

    Real dances jump and go down on their hands: compare with the real value, not with 0.
    """
    p = as_joints(joints, fps)
    floor = floor_height(p, fps) if floor is None else floor
    return float(np.maximum(p[:, _FOOT_JOINTS, 1].min(1) - floor, 0.0).mean())


def jitter(joints: np.ndarray, fps: float = 60) -> float:
    """Mean jerk in m/s³: length of the third difference times fps³, over joints and frames (at least 0).

    Depends on the frame rate of the data; good is near the real value. Not a number with fewer than 4 frames.
    """
    p = as_joints(joints, fps)
    if len(p) < 4:
        return math.nan
    jerk = np.diff(p, n=3, axis=0)
    return float(np.sqrt(np.einsum("tjc,tjc->tj", jerk, jerk)).mean() * fps**3)


def freezing(joints: np.ndarray, fps: float = 60) -> float:
    """Share (0..1, lower is better) of one-second windows with a mean joint speed below 0.05 m/s.

    A window starts at every frame; a dance shorter than a second is one window.
    """
    speed = _speed(as_joints(joints, fps), fps).mean(1)
    length = min(len(speed), max(1, round(fps)))
    total = np.concatenate([[0.0], np.cumsum(speed)])
    return float(((total[length:] - total[:-length]) / length < STILL_SPEED).mean())


def bone_length_drift(joints: np.ndarray, fps: float = 60) -> float:
    """Mean over bones and frames of |length / median length - 1| (>= 0, lower is better; 0 if rigid).

    Bones whose median length is zero are left out; not a number if that is all of them.
    """
    p = as_joints(joints, fps)
    parents, children = np.array(SMPL_24.bones).T
    bones = p[:, children] - p[:, parents]
    length = np.sqrt(np.einsum("tbc,tbc->tb", bones, bones))
    usual = np.median(length, axis=0)
    there = usual > 1e-9
    if not there.any():
        return math.nan
    return float(np.abs(length[:, there] / usual[there] - 1.0).mean())


# Column of the tables -> the metric of joints (T, 24, 3), their rate in Hz, and the floor's height in metres.
METRICS: dict[str, Callable[[np.ndarray, float, float], float]] = {
    "PFC": lambda p, fps, floor: pfc(p, fps),
    "PFC_fps_free": lambda p, fps, floor: pfc(p, fps, published=False),
    "foot_skate": foot_skate_ratio,
    "foot_penetration": foot_penetration,
    "foot_float": foot_float,
    "jitter": lambda p, fps, floor: jitter(p, fps),
    "freezing": lambda p, fps, floor: freezing(p, fps),
    "bone_drift": lambda p, fps, floor: bone_length_drift(p, fps),
}


def physical_metrics(joints: np.ndarray, fps: float = 60) -> dict[str, float]:
    """All of `METRICS` for one dance. The floor is estimated once."""
    p = as_joints(joints, fps)
    floor = floor_height(p, fps)
    return {name: metric(p, fps, floor) for name, metric in METRICS.items()}
