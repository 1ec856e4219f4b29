"""How a step is written down: a few keys on counts, for a dancer who leads with the left, and mirrored.

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
    """What the body does at one count.

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
