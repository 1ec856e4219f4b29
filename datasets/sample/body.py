"""From keys on beats to SMPL parameters: curves over time, then pelvis, spine, arms and legs.

Curves run over beats through a time warp that slows every movement down around each beat, all joints at once,
so that movements hit the beat. Between keys they are monotone cubics, without overshoot.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp

from datasets.sample.arms import elbow_axis
from datasets.sample.legs import PELVIS_HEIGHT_M, TOE_HEIGHT_M, Foot, reachable_height, solve_leg
from datasets.sample.steps import CHANNELS
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints

_SPINE = tuple(SMPL_24.index(name) for name in ("spine1", "spine2", "spine3"))
_NECK, _HEAD = SMPL_24.index("neck"), SMPL_24.index("head")
_ARMS = tuple(
    tuple(SMPL_24.index(f"{side}_{part}") for part in ("collar", "shoulder", "elbow", "wrist"))
    for side in ("left", "right")
)


@dataclass(frozen=True)
class FootKey:
    """A foot at a beat: toe base (x, y, z) in metres, yaw and heel pitch in radians."""

    toe: tuple[float, float, float]
    yaw: float
    pitch: float


@dataclass
class Timeline:
    """Everything that is keyed, by beat: home, heading, body channels, arms, feet."""

    home_x: dict[float, float] = field(default_factory=dict)
    home_z: dict[float, float] = field(default_factory=dict)
    heading: dict[float, float] = field(default_factory=dict)
    channels: dict[str, dict[float, float]] = field(default_factory=lambda: {name: {} for name in CHANNELS})
    shoulders: tuple[dict[float, Rotation], ...] = field(default_factory=lambda: ({}, {}))
    elbows: tuple[dict[float, float], ...] = field(default_factory=lambda: ({}, {}))
    feet: tuple[dict[float, FootKey], ...] = field(default_factory=lambda: ({}, {}))


@dataclass(frozen=True)
class Feel:
    """Style of a dancer in time.

    Attributes:
        flow: share of the speed left on the beat.
        bounce: metres from the top to the bottom of the knee bounce.
        lag: seconds by which the hands trail the body.
        knee_bend: metres by which the dancer always stands lower than upright.
        lean: degrees by which the dancer always leans forward.
    """

    flow: float
    bounce: float
    lag: float
    knee_bend: float
    lean: float


def _foot_curve(keys: dict[float, FootKey], at: np.ndarray) -> Foot:
    """Feet rest between equal keys and step in an arc between different ones."""
    beats = np.array(sorted(keys))
    toes = np.array([keys[beat].toe for beat in beats])
    yaws, pitches = (np.array([getattr(keys[beat], name) for beat in beats]) for name in ("yaw", "pitch"))
    at = np.clip(at, beats[0], beats[-1])
    segment = np.clip(np.searchsorted(beats, at, side="right") - 1, 0, len(beats) - 2)
    share = (at - beats[segment]) / (beats[segment + 1] - beats[segment])
    lifted = toes[:, 1] > TOE_HEIGHT_M + 0.01
    takes_off, lands = lifted[segment + 1] & ~lifted[segment], lifted[segment] & ~lifted[segment + 1]

    def mix(values: np.ndarray, share: np.ndarray) -> np.ndarray:
        weight = smoothstep(share) if values.ndim == 1 else smoothstep(share)[:, None]
        return values[segment] + weight * (values[segment + 1] - values[segment])

    # A foot leaves the floor before it travels and lands after it has arrived, so it never scuffs.
    toe = mix(toes, np.where(takes_off, (share - 0.2) / 0.8, np.where(lands, share / 0.8, share)))
    distance = np.linalg.norm(np.diff(toes[:, [0, 2]], axis=0), axis=-1)[segment]
    arc = np.minimum(0.3 * distance, 0.09) * ~(lifted[segment] | lifted[segment + 1]) * bump(share)
    toe[:, 1] = mix(toes[:, 1], share) + arc
    turned = np.abs(np.diff(yaws))[segment] * (distance < 0.01)
    heel = np.radians(22) * np.minimum(distance / 0.2, 1.0) * bump(1.25 * share)
    pivot = np.radians(14) * np.minimum(turned / np.radians(40), 1.0) * bump(share)
    return Foot(toe, mix(yaws, share), mix(pitches, share) + heel + pivot)


def _euler(order: str, *degrees: np.ndarray) -> Rotation:
    return Rotation.from_euler(order, np.radians(np.stack(degrees, axis=-1)))


def animate(
    timeline: Timeline, feel: Feel, beats: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move the body.

    Args:
        timeline: keys, from before the first to after the last of `beats`.
        feel: how the dancer moves.
        beats: (T,) musical time of each frame, in beats.
        period: seconds per beat.

    Returns:
        (T, 72) axis-angle rotations in radians and (T, 3) translation in metres, floor at y = 0.
    """
    at = warp(beats, feel.flow)
    late = warp(beats - feel.lag / period, feel.flow)
    body = {name: scalar_curve(timeline.channels[name], at) for name in CHANNELS}
    heading = scalar_curve(timeline.heading, at)
    home = np.stack([scalar_curve(timeline.home_x, at), scalar_curve(timeline.home_z, at)], axis=-1)
    left_keys, right_keys = timeline.feet
    feet = (_foot_curve(left_keys, at), _foot_curve(right_keys, at))

    left = np.stack([np.cos(heading), -np.sin(heading)], axis=-1)
    ahead = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    ground = home + body["sway"][:, None] * left + body["push"][:, None] * ahead
    pelvis = Rotation.from_rotvec(heading[:, None] * (0, 1, 0)) * _euler(
        "YXZ", body["hips"], body["tilt"] + 0.4 * feel.lean, body["roll"]
    )
    bounce = feel.bounce * 0.5 * (1 + np.cos(2 * np.pi * at))
    wish = PELVIS_HEIGHT_M - feel.knee_bend - body["dip"] - bounce
    height = reachable_height(wish, ground, pelvis, feet)
    position = np.stack([ground[:, 0], height, ground[:, 1]], axis=-1)

    local = np.zeros((len(beats), SMPL_24.num_joints, 3))
    local[:, 0] = pelvis.as_rotvec()
    bend = body["bend"] + 0.6 * feel.lean + 60.0 * (bounce - feel.bounce / 2)  # the back gives with the knees
    for joint, share in zip(_SPINE, (0.3, 0.35, 0.35), strict=True):
        turn = _euler(
            "YXZ", share * body["twist"], share * bend, -share * (body["side"] + 0.5 * body["roll"])
        )
        local[:, joint] = turn.as_rotvec()
    look = body["look"] - 0.6 * (body["twist"] + body["hips"])  # the eyes stay in front
    nod = body["nod"] - 0.5 * (bend + body["tilt"] + feel.lean)
    for joint in (_NECK, _HEAD):
        local[:, joint] = _euler(
            "YXZ", 0.5 * look, 0.5 * nod, 0.25 * body["side"] - 0.5 * body["cock"]
        ).as_rotvec()

    for side, (collar, shoulder, elbow, wrist) in enumerate(_ARMS):
        arm = rotation_curve(timeline.shoulders[side], late)
        flex = scalar_curve(timeline.elbows[side], warp(beats - 1.6 * feel.lag / period, feel.flow))
        bone = rest_joints()[elbow] - rest_joints()[shoulder]
        raised = arm.apply(bone / np.linalg.norm(bone))[:, 1]
        shrug = (1 if side == 0 else -1) * np.radians(4 + 16 * np.clip(raised, -0.4, 1))
        clavicle = Rotation.from_euler("Z", shrug[:, None])
        local[:, collar] = clavicle.as_rotvec()
        local[:, shoulder] = (clavicle.inv() * arm).as_rotvec()
        local[:, elbow] = flex[:, None] * elbow_axis(side)
        local[:, wrist] = -0.12 * flex[:, None] * elbow_axis(side)

    for side, foot in enumerate(feet):
        hip = SMPL_24.index("left_hip" if side == 0 else "right_hip")
        toward = heading + np.radians(body["hips"])
        knee_yaw = toward + 0.6 * (foot.yaw - toward)
        leg = solve_leg(position, pelvis, knee_yaw, foot, side)
        for joint, rotation in zip((hip, hip + 3, hip + 6, hip + 9), leg, strict=True):
            local[:, joint] = rotation.as_rotvec()
    return local.reshape(len(beats), -1), position - rest_joints()[0]


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
