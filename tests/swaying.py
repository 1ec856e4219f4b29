"""A dance that sways, and how near a picture's colours are to one."""

import numpy as np

from utils.floor import sole_thickness
from utils.smpl import rest_joints

FRAMES = 45


def dance(frames=FRAMES, floor=0.0):
    """The rest pose, swaying and travelling."""
    rest = rest_joints()
    rest = rest - [0, rest[:, 1].min() - floor - sole_thickness(), 0]
    time = np.arange(frames) / 60
    travel = np.stack([0.3 * np.sin(3 * time), 0 * time, 0.4 * time], 1)
    return (rest + travel[:, None]).astype(np.float32)


def near(pixels, colour, within=0.08):
    return (np.abs(pixels / 255 - np.asarray(colour)) < within).all(-1)
