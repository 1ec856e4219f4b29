"""When a dance is not fit for use: what is refused, with the reason that is counted and shown."""

import numpy as np

from utils.skeleton import SMPL_24, Skeleton

MIN_FRAMES = 16
FROZEN_FRAMES = 120
FROZEN_METRES = 1e-6
BODY_METRES = (0.3, 3.0)


class Rejected(ValueError):
    """Data that is left out: `kind` is what is counted, the message says the rest."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def check_joints(joints: np.ndarray, skeleton: Skeleton = SMPL_24) -> None:
    """Refuses a dance that would spoil a training set.

    Raises:
        Rejected: if it is not (T, J, 3) finite numbers with the skeleton's J, is shorter than 16 frames,
            stands perfectly still for two seconds (a fit that broke off), or is not in metres.
    """
    num = skeleton.num_joints
    if joints.ndim != 3 or joints.shape[1:] != (num, 3):
        raise Rejected("wrong shape", f"joints are {joints.shape}; (T, {num}, 3) is needed")
    if joints.dtype.kind != "f":
        raise Rejected("wrong shape", f"joints are {joints.dtype}; float32 is needed")
    if len(joints) < MIN_FRAMES:
        raise Rejected("too short", f"{len(joints)} frames; at least {MIN_FRAMES} are needed")
    finite = np.isfinite(joints).all((1, 2))
    if not finite.all():
        raise Rejected(
            "NaN", f"{(~finite).sum()} frames are NaN or infinite, the first is {np.argmin(finite)}"
        )
    start, length = longest_frozen(joints)
    if length >= FROZEN_FRAMES:
        raise Rejected("frozen", f"nothing moves for {length} frames from frame {start} on")
    size = float(np.median(np.ptp(joints, axis=1).max(axis=1)))
    if not BODY_METRES[0] <= size <= BODY_METRES[1]:
        raise Rejected("not metres", f"the body measures {size:.3g}; in metres it would be about 1.5")


def longest_frozen(joints: np.ndarray) -> tuple[int, int]:
    """First frame and length of the longest run of frames in which no joint moves at all."""
    still = np.abs(np.diff(joints, axis=0)).max((1, 2)) <= FROZEN_METRES
    edges = np.flatnonzero(np.diff(np.concatenate(([False], still, [False])).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 1
    best = int(np.argmax(ends - starts))
    return int(starts[best]), int(ends[best] - starts[best]) + 1
