"""The skeleton: joint names, parents, halves, feet, frame rate. The only file that knows there are 24 joints.

Source: SMPL's joint order; the halves are those of Bailando (CVPR 2022), section 3.2.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """A joint tree, split into the two halves that get a codebook each.

    Attributes:
        name: how configs and checkpoints name it.
        joints: joint names, root first.
        parents: index of each joint's parent, -1 for the root.
        lower: joints of the lower half, root included, ascending.
        feet: (left, right) tuples of the joints that touch the floor: ankle, then toe base.
        fps: frame rate of the motion, in Hz.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    lower: tuple[int, ...]
    feet: tuple[tuple[int, ...], tuple[int, ...]]
    fps: int

    @property
    def num_joints(self) -> int:
        """Number of joints."""
        return len(self.joints)

    @property
    def upper(self) -> tuple[int, ...]:
        """Joints of the upper half: all that are not lower, ascending."""
        return tuple(j for j in range(self.num_joints) if j not in self.lower)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) pairs."""
        return tuple((p, j) for j, p in enumerate(self.parents) if p >= 0)

    def index(self, name: str) -> int:
        """Index of a joint by name.

        Raises:
            ValueError: if the skeleton has no such joint.
        """
        if name not in self.joints:
            raise ValueError(
                f"skeleton {self.name!r} has no joint {name!r}; it has: {', '.join(self.joints)}"
            )
        return self.joints.index(name)


SMPL_24 = Skeleton(
    name="smpl_24",
    joints=(
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
        "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hand", "right_hand",
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    lower=(0, 1, 2, 4, 5, 7, 8, 10, 11),
    feet=((7, 10), (8, 11)),
    fps=60,
)  # fmt: skip

SKELETONS = {SMPL_24.name: SMPL_24}
