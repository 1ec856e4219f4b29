"""Joints from SMPL parameters, so that motion pickles can be scored as they are.

Source: SMPL (Loper et al. 2015), the kinematic chain with betas = 0. The same function, for preparing data,
lives in `datasets/smpl.py`, which this package may not import; a test holds the two together.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from utils.skeleton import SMPL_24

# rest joints of the male mean shape in metres, the model behind AIST++ and the published numbers
MALE_REST_JOINTS = (
    (-0.00217368, -0.24078917, 0.02858379),
    (0.05640767, -0.32306921, 0.01091971),
    (-0.06248341, -0.33130245, 0.01504126),
    (0.00226577, -0.11638562, -0.00980143),
    (0.0998591, -0.70953867, 0.01895671),
    (-0.10574003, -0.71499033, 0.01019822),
    (0.00675421, 0.02157077, 0.0170189),
    (0.08506877, -1.13641306, -0.01847128),
    (-0.08668449, -1.13503592, -0.02436345),
    (0.00448962, 0.07760317, 0.01987394),
    (0.12612313, -1.19669901, 0.10357114),
    (-0.12152436, -1.19714148, 0.10595984),
    (-0.00890056, 0.28923869, -0.01359363),
    (0.0761921, 0.19160286, 0.00097577),
    (-0.07846403, 0.1900755, -0.00383344),
    (0.00121265, 0.37817605, 0.03681623),
    (0.19911348, 0.23680795, -0.01807023),
    (-0.19169234, 0.23692877, -0.01230551),
    (0.45444538, 0.22115892, -0.04101671),
    (-0.45181985, 0.22255948, -0.04357424),
    (0.72015463, 0.23385703, -0.04839145),
    (-0.72092823, 0.2293532, -0.04960101),
    (0.80684518, 0.223221, -0.06398574),
    (-0.80968199, 0.22070164, -0.05970808),
)


def joints_from_smpl(poses: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """World positions (T, 24, 3) in metres, float64.

    Args:
        poses: (T, 72) axis-angle rotations in radians, each joint's relative to its parent's.
        translation: (T, 3) metres, added to the rest pelvis.

    Raises:
        ValueError: on other shapes.
    """
    poses, translation = np.asarray(poses, np.float64), np.asarray(translation, np.float64)
    num = SMPL_24.num_joints
    if poses.ndim != 2 or poses.shape[1] != 3 * num:
        raise ValueError(f"SMPL poses must be (T, {3 * num}) axis-angle, got {poses.shape}")
    if translation.shape != (len(poses), 3):
        raise ValueError(
            f"SMPL translation must be ({len(poses)}, 3) to match the poses, got {translation.shape}"
        )
    rest = np.array(MALE_REST_JOINTS)
    turn = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, num, 3, 3)
    joints = np.empty((len(poses), num, 3))
    joints[:, 0] = rest[0] + translation
    for (
        parent,
        child,
    ) in SMPL_24.bones:  # parents come before children, so a parent's turn is in the world's frame
        turn[:, child] = turn[:, parent] @ turn[:, child]
        joints[:, child] = joints[:, parent] + turn[:, parent] @ (rest[child] - rest[parent])
    return joints
