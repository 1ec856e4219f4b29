"""Joint names of other programs for the files, and the name of the node on the ground.

Sources: Mixamo's skeleton as its .fbx files have it; VRM 1.0, "Humanoid bones", whose names Unity's humanoid
avatars use as well. SMPL's `left_hand` lies at the knuckles: the first joint of the middle finger there.
"""

from collections.abc import Sequence
from typing import Literal

from utils.skeleton import SMPL_24, Skeleton

Names = Literal["smpl", "mixamo", "vrm"]
ROOT = "root"  # of the node on the ground above the pelvis, in every table
_SIDES = {
    "hip": ("UpLeg", "UpperLeg"),
    "knee": ("Leg", "LowerLeg"),
    "ankle": ("Foot", "Foot"),
    "foot": ("ToeBase", "Toes"),
    "collar": ("Shoulder", "Shoulder"),
    "shoulder": ("Arm", "UpperArm"),
    "elbow": ("ForeArm", "LowerArm"),
    "wrist": ("Hand", "Hand"),
    "hand": ("HandMiddle1", "MiddleProximal"),
}
_MIDDLE = {
    "pelvis": ("Hips", "hips"),
    "spine1": ("Spine", "spine"),
    "spine2": ("Spine1", "chest"),
    "spine3": ("Spine2", "upperChest"),
    "neck": ("Neck", "neck"),
    "head": ("Head", "head"),
}
TABLES: dict[Names, dict[str, str]] = {
    "smpl": {name: name for name in SMPL_24.joints},
    "mixamo": {name: f"mixamorig:{other}" for name, (other, _) in _MIDDLE.items()}
    | {
        f"{side}_{name}": f"mixamorig:{side.capitalize()}{other}"
        for side in ("left", "right")
        for name, (other, _) in _SIDES.items()
    },
    "vrm": {name: other for name, (_, other) in _MIDDLE.items()}
    | {
        f"{side}_{name}": f"{side}{other}"
        for side in ("left", "right")
        for name, (_, other) in _SIDES.items()
    },
}


def joint_names(names: Names, skeleton: Skeleton = SMPL_24) -> Sequence[str]:
    """Names of the skeleton's joints in a program, in the skeleton's order.

    Raises:
        ValueError: if there is no such table, or a joint is not in it.
    """
    if names == "smpl":
        return skeleton.joints
    if names not in TABLES:
        raise ValueError(f"names of joints must be one of {', '.join(TABLES)}, got {names!r}")
    lacking = [joint for joint in skeleton.joints if joint not in TABLES[names]]
    if lacking:
        raise ValueError(f"{names} has no name for: {', '.join(lacking)}; use names 'smpl'")
    return [TABLES[names][joint] for joint in skeleton.joints]
