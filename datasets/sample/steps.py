"""The steps of the sample dances: a few keys on counts, led by the left side; `mirrored` gives the right.

Count 1 of a step is its first beat; a count in between (1.5) is the "and". Every step starts and ends with
both feet at home in the dancer's own frame (x to the dancer's left, z forward), which the step may move and
turn: so any step can follow any other.
"""

from dataclasses import dataclass, field, replace

Placement = tuple[float, ...]  # offset from home: x, z, lift (m), yaw, heel (degrees); what is left out is 0
PIVOT = "pivot"  # the dancer turns about this foot: it stays, and home goes round it

# Channels of the body. Metres: sway to the left, push forward, dip down. Degrees: the pelvis turns left
# (hips), tilts forward, rolls its left side up; the spine bends forward, leans left (side), twists left; the
# head nods down, looks left, cocks left.
CHANNELS = ("sway", "push", "dip", "hips", "tilt", "roll", "bend", "side", "twist", "nod", "look", "cock")
_MIRRORED_CHANNELS = ("sway", "hips", "roll", "side", "twist", "look", "cock")


@dataclass(frozen=True)
class Key:
    """Pose of the body at one count.

    Attributes:
        at: the count, from 1.
        arms: names of the left and right arm poses; None passes through.
        left: placement of the left foot or PIVOT; None lets it stay.
        right: likewise.
        move: (x, z) metres by which home moves, up to this key, in the dancer's frame.
        turn: degrees by which the dancer turns left up to this key.
        body: values of channels; on whole counts those left out are 0.
    """

    at: float
    arms: tuple[str, str] | None = None
    left: Placement | str | None = None
    right: Placement | str | None = None
    move: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    body: dict[str, float] = field(default_factory=dict)


def _mirror_foot(foot: Placement | str | None) -> Placement | str | None:
    if foot is None or isinstance(foot, str):
        return foot
    x, z, lift, yaw, heel = (*foot, *(0.0,) * (5 - len(foot)))
    return -x, z, lift, -yaw, heel


def mirrored(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """The step led by the right side."""
    return tuple(
        replace(
            key,
            arms=key.arms and key.arms[::-1],
            left=_mirror_foot(key.right),
            right=_mirror_foot(key.left),
            move=(-key.move[0], key.move[1]),
            turn=-key.turn,
            body={name: -value if name in _MIRRORED_CHANNELS else value for name, value in key.body.items()},
        )
        for key in keys
    )


def _key(
    at: float,
    arms: str | tuple[str, str] | None = None,
    left: Placement | str | None = None,
    right: Placement | str | None = None,
    move: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    **body: float,
) -> Key:
    assert set(body) <= set(CHANNELS), body
    return Key(at, (arms, arms) if isinstance(arms, str) else arms, left, right, move, turn, body)


HOME = (0.0, 0.0)
TOUCH = (0.0, 0.0, 0.0, 0.0, 28.0)  # beside the other foot, on the ball
_SWING_L, _SWING_R = ("swing_back", "swing_front"), ("swing_front", "swing_back")

STEPS: dict[str, tuple[Key, ...]] = {
    "bounce": (
        _key(1, ("guard", "swing_back"), sway=0.08, dip=0.09, bend=10, side=7, twist=8, nod=14),
        _key(2, "low", dip=0.0, nod=-6, left=(0, 0, 0, 0, 8)),
        _key(3, ("swing_back", "guard"), sway=-0.08, dip=0.09, bend=10, side=-7, twist=-8, nod=14, left=HOME),
        _key(4, "low", dip=0.0, nod=-6, right=(0, 0, 0, 0, 8)),
    ),
    "step_touch": (
        _key(1, _SWING_L, left=HOME, move=(0.30, 0), sway=-0.05, dip=0.04, twist=-10, look=8),
        _key(2, _SWING_R, right=TOUCH, sway=0.05, dip=0.01, roll=-4, twist=12, side=4),
        _key(3, _SWING_R, right=HOME, move=(-0.30, 0), sway=0.05, dip=0.04, twist=10, look=-8),
        _key(4, _SWING_L, left=TOUCH, sway=-0.05, dip=0.01, roll=4, twist=-12, side=-4),
    ),
    "side_travel": (
        _key(1, "side_low", left=HOME, move=(0.30, 0), sway=-0.05, dip=0.05, side=4, look=15),
        _key(2, "cross", right=HOME, dip=0.02, bend=6),
        _key(3, "side_low", left=HOME, move=(0.30, 0), sway=-0.05, dip=0.05, side=4, look=15),
        _key(4, "clap", right=TOUCH, sway=0.05, dip=0.03, roll=-4, bend=4),
    ),
    "grapevine": (
        _key(1, _SWING_L, left=HOME, move=(0.26, 0), sway=-0.05, dip=0.03, look=10),
        _key(2, _SWING_R, right=(0.17, -0.30, 0, 10, 20), move=(0.12, 0), dip=0.05, hips=12, twist=-8,
             look=10),
        _key(3, ("side_low", "swing_front"), left=HOME, move=(0.22, 0), sway=-0.05, dip=0.03, look=10),
        _key(4, ("side_high", "hip"), right=TOUCH, sway=0.05, roll=-5, side=6, look=15),
    ),
    "box_step": (
        _key(1, ("front_low", "side"), right=(0.16, 0.26), sway=0.03, push=0.10, dip=0.05, twist=12),
        _key(2, ("cross", "cross"), left=(0.06, -0.06), push=0.03, dip=0.03, bend=4),
        _key(3, ("side", "side_low"), right=HOME, sway=-0.06, dip=0.03, twist=-10, side=-5),
        _key(4, "low", left=HOME, dip=0.01),
    ),
    "kick": (
        _key(1, ("front", "swing_back"), right=(0.08, 0.62, 0.28, 0, -14), sway=0.08, push=-0.04, dip=0.01,
             bend=-8, twist=-12),
        _key(2, "ready", right=HOME, dip=0.06, bend=10, nod=6),
        _key(3, ("swing_back", "front"), left=(-0.08, 0.62, 0.28, 0, -14), sway=-0.08, push=-0.04, dip=0.01,
             bend=-8, twist=12),
        _key(4, "ready", left=HOME, dip=0.06, bend=10, nod=6),
    ),
    "toprock": (
        _key(1, "side_low", left=(-0.16, 0.30, 0, -15), sway=-0.02, push=0.12, dip=0.06, hips=-16, twist=-12,
             bend=4, look=10),
        _key(2, "cross", left=HOME, dip=0.03, bend=12, nod=5),
        _key(3, "side_low", right=(0.16, 0.30, 0, 15), sway=0.02, push=0.12, dip=0.06, hips=16, twist=12,
             bend=4, look=-10),
        _key(4, "cross", right=HOME, dip=0.03, bend=12, nod=5),
    ),
    "uprock": (
        _key(1, ("guard", "swing_back"), right=(0.0, 0.16, 0.24, 0, 15), sway=0.08, dip=0.02, twist=14),
        _key(2, ("swing_back", "front"), right=(-0.10, 0.26), push=0.12, dip=0.13, bend=20, twist=-16),
        _key(3, ("guard", "guard"), right=HOME, dip=0.04, bend=4),
        _key(4, "low", dip=0.12, bend=16, nod=8),
    ),
    "body_roll": (
        _key(1, "side_low", dip=0.01, push=0.05, tilt=-8, bend=-20, nod=-14),
        _key(2, "front_low", dip=0.13, push=-0.05, tilt=12, bend=30, nod=18),
        _key(3, "swing_back", dip=0.07, push=0.06, tilt=-12, bend=8, nod=6),
        _key(4, "low", dip=0.0, bend=-8, nod=-6),
    ),
    "jack": (
        _key(1, "ready", sway=0.07, dip=0.08, bend=20, side=4, nod=12, right=(0, 0, 0, 0, 20)),
        _key(2, "front", dip=0.0, bend=-10, nod=-8, right=HOME),
        _key(3, "ready", sway=-0.07, dip=0.08, bend=20, side=-4, nod=12, left=(0, 0, 0, 0, 20)),
        _key(4, "swing_back", dip=0.0, bend=-10, nod=-8, left=HOME),
    ),
    "arm_wave": (
        _key(1, ("wave_1", "side"), left=(0.14, 0), sway=0.10, side=8, look=35, dip=0.03),
        _key(1.5, ("wave_2", "side")),
        _key(2, ("wave_3", "wave_3"), sway=0.04, look=5, dip=0.07),
        _key(2.5, ("side", "wave_2")),
        _key(3, ("side", "wave_1"), sway=-0.04, side=-8, look=-35, dip=0.02, left=(0.14, 0, 0, 0, 22)),
        _key(4, "low", left=HOME, dip=0.04, bend=6),
    ),
    "twist": (
        _key(1, ("chest", "side_low"), left=(0, 0, 0, 25, 8), right=(0, 0, 0, 25, 8), sway=0.05, dip=0.09,
             hips=18, twist=-26, look=8),
        _key(2, ("side_low", "chest"), left=(0, 0, 0, -25, 8), right=(0, 0, 0, -25, 8), sway=-0.05, dip=0.04,
             hips=-18, twist=26, look=-8),
        _key(3, ("chest", "side_low"), left=(0, 0, 0, 25, 8), right=(0, 0, 0, 25, 8), sway=0.05, dip=0.09,
             hips=18, twist=-26, look=8),
        _key(4, "ready", left=HOME, right=HOME, dip=0.02),
    ),
    "robot": (
        _key(1, ("goal", "hang"), left=(0.12, 0), sway=0.09, dip=0.03, twist=12, look=30),
        _key(2, ("hang", "goal"), sway=-0.03, dip=0.05, twist=-12, look=-30, left=(0.12, 0, 0, 0, 20)),
        _key(3, ("goal", "goal"), left=HOME, dip=0.10, bend=6, cock=-10),
        _key(4, ("hang", "hang"), dip=0.04, bend=18, nod=16),
    ),
    "lock": (
        _key(1, ("guard", "guard"), dip=0.12, bend=12, sway=0.04),
        _key(2, ("side_low", "side_low"), dip=0.03, bend=-6, nod=-4),
        _key(3, ("point_front", "hip"), left=(0.10, 0.14), sway=0.06, push=0.04, dip=0.06, twist=-14,
             look=10),
        _key(4, ("hip", "hip"), left=HOME, dip=0.02),
    ),
    "point": (
        _key(1, ("point_up", "hip"), left=(0.14, 0.02), sway=0.08, dip=0.03, roll=-5, side=-8, look=25,
             nod=-12),
        _key(2, ("chest", "hip"), sway=-0.05, dip=0.06, twist=-14, bend=6),
        _key(3, ("point_up", "hip"), sway=0.08, dip=0.03, roll=-5, side=-8, look=25, nod=-12),
        _key(4, ("low", "hip"), left=HOME, dip=0.01),
    ),
    "waack": (
        _key(1, ("over", "over"), sway=0.06, dip=0.02, roll=-5, side=5, left=HOME, right=TOUCH),
        _key(2, ("side_low", "side_low"), sway=0.05, dip=0.05, roll=-3, right=TOUCH),
        _key(3, ("behind", "side"), sway=-0.06, dip=0.02, roll=5, side=-5, look=-20, right=HOME, left=TOUCH),
        _key(4, ("side", "over"), sway=-0.05, dip=0.05, roll=4, look=-10, left=TOUCH),
    ),
    "arm_circle": (
        _key(1, ("side", "side"), left=HOME, move=(0.22, 0), sway=-0.04, dip=0.03, look=12),
        _key(2, ("up", "up"), right=TOUCH, sway=0.04, nod=-10, bend=-4),
        _key(3, ("cross", "cross"), right=HOME, move=(-0.22, 0), sway=0.04, dip=0.05, bend=8),
        _key(4, ("side_low", "side_low"), left=TOUCH, sway=-0.04, dip=0.01),
    ),
    "pose": (
        _key(1, ("behind", "hip"), left=(0.16, 0.0, 0, 15, 25), sway=-0.07, roll=6, side=-6, look=20,
             dip=0.01),
        _key(2, ("behind", "hip"), left=(0.16, 0.0, 0, 15, 25), sway=0.05, roll=-4, side=6, dip=0.06),
        _key(3, ("victory", "hip"), left=(0.16, 0.0, 0, 15, 25), sway=-0.07, roll=6, side=-8, look=30,
             nod=-10),
        _key(4, ("hip", "hip"), left=HOME, dip=0.02),
    ),
    "clap": (
        _key(1, "side_low", left=(0.20, 0), sway=0.12, dip=0.04, side=6, twist=8),
        _key(2, "clap", left=HOME, dip=0.08, bend=8, nod=6),
        _key(3, "side_low", right=(-0.20, 0), sway=-0.12, dip=0.04, side=-6, twist=-8),
        _key(4, "clap_high", right=HOME, dip=0.01, bend=-4, nod=-8),
    ),
    "quarter_turn": (
        _key(1, ("front_low", "side_low"), left=HOME, right=PIVOT, turn=80, dip=0.05, twist=-6),
        _key(2, "clap", left=TOUCH, dip=0.03, bend=4, sway=-0.04),
        _key(3, ("side_low", "front_low"), left=HOME, right=PIVOT, turn=-80, dip=0.05, twist=6),
        _key(4, "low", dip=0.02, sway=0.03),
    ),
    "half_turn": (
        _key(1, ("swing_front", "side_low"), left=HOME, right=PIVOT, turn=90, dip=0.05, look=15),
        _key(2, ("chest", "chest"), right=HOME, left=PIVOT, turn=90, dip=0.03, look=10),
        _key(3, "ready", left=HOME, dip=0.08, bend=10, nod=8),
        _key(4, "low", dip=0.02, bend=-4),
    ),
    "spin": (
        _key(1, ("side", "side"), left=HOME, right=PIVOT, turn=90, dip=0.04, look=10),
        _key(2, ("embrace", "embrace"), right=HOME, left=PIVOT, turn=90, look=15),
        _key(3, ("embrace", "embrace"), left=HOME, right=PIVOT, turn=90, look=15),
        _key(4, ("side", "side"), right=HOME, left=PIVOT, turn=90, dip=0.05),
    ),
    "lunge": (
        _key(1, ("side_high", "side_low"), left=(0.40, 0.04, 0, 20), sway=0.17, dip=0.17, side=6,
             look=25, twist=8),
        _key(2, ("side_high", "chest"), sway=0.20, dip=0.19, side=2, look=10, twist=-6),
        _key(3, ("up", "side"), left=HOME, sway=-0.02, dip=0.0, side=-5, nod=-8),
        _key(4, "side_low", dip=0.02),
    ),
    "sway_arms": (
        _key(1, ("side_high", "side_low"), sway=0.07, dip=0.02, roll=-4, side=8, right=(0, 0, 0, 0, 15),
             cock=6),
        _key(2, ("up", "side"), sway=0.03, dip=0.0, nod=-8, right=HOME),
        _key(3, ("side_low", "side_high"), sway=-0.07, dip=0.02, roll=4, side=-8, left=(0, 0, 0, 0, 15),
             cock=-6),
        _key(4, ("side_low", "side"), sway=-0.02, dip=0.03, left=HOME),
    ),
    "battement": (
        _key(1, ("embrace", "embrace"), right=(0.0, -0.20, 0, 0, 25), sway=0.06, push=0.03, dip=0.06, bend=4),
        _key(2, ("side", "side"), right=(0.06, 0.72, 0.55, 0, -28), sway=0.09, push=-0.04, tilt=-6, bend=-4),
        _key(3, ("side", "side"), right=(0.02, 0.24, 0, 0, 20), sway=0.05, dip=0.04),
        _key(4, ("low", "low"), right=HOME, dip=0.01),
    ),
    "knee_lift": (
        _key(1, ("guard", "swing_back"), right=(0.03, 0.16, 0.30, 0, 25), sway=0.07, dip=0.0, bend=4,
             twist=8),
        _key(2, "low", right=HOME, dip=0.07, bend=6, nod=6),
        _key(3, ("swing_back", "guard"), left=(-0.03, 0.16, 0.30, 0, 25), sway=-0.07, dip=0.0, bend=4,
             twist=-8),
        _key(4, "low", left=HOME, dip=0.07, bend=6, nod=6),
    ),
    "rock_back": (
        _key(1, ("front", "swing_back"), left=(0.04, -0.30, 0, 0, 15), push=-0.10, dip=0.06, bend=10,
             twist=-16),
        _key(2, ("guard", "low"), push=0.05, dip=0.02, twist=6, left=(0.04, -0.30, 0, 0, 35)),
        _key(3, ("swing_back", "front_low"), left=(0.22, 0.0), sway=0.12, dip=0.06, twist=12, side=6),
        _key(4, ("low", "guard"), left=HOME, dip=0.01),
    ),
}  # fmt: skip
