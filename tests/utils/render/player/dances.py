"""Dances, codes and songs for tests of the player."""

import json
import re

import numpy as np

from utils.music.audio import write_wav
from utils.smpl import rest_joints

SECONDS = 4
HOSTILE = "</script><script>window.hurt=1</script><img src=x onerror='window.hurt=1'>&amp;{{data}}\u2028 \"'"


def dance(frames=60 * SECONDS, speed=3.0):
    """The rest pose, swaying, travelling and bobbing."""
    rest = rest_joints()
    rest = rest - [0, rest[:, 1].min() - 0.02, 0]
    time = np.arange(frames) / 60
    travel = np.stack([0.5 * np.sin(speed * time), 0.05 * np.sin(9 * time) ** 2, 0.3 * time], 1)
    return (rest + travel[:, None]).astype(np.float32)


def codes(frames=60 * SECONDS, shift=0):
    number = np.arange(-(-frames // 8))
    return np.stack([number // 2 + shift, number + 100 + shift], 1)


def song(path, seconds=SECONDS, rate=22050, click=None):
    """A tone, or silence with a click at a time."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 440 * time)
    if click is not None:
        samples = np.where(np.abs(time - click) < 0.002, 0.9, 0.0)
    write_wav(path, samples, rate)
    return path


def embedded(path):
    """The data of a page."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    return json.loads(found[1])
