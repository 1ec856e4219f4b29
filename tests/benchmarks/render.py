"""Milliseconds per frame of a 540p video with sound, on one core: `python -m tests.benchmarks.render`.

Dance and song are of the sample corpus. The published code takes 46 ms; ours is to take 8. Real time at
60 fps is 16.7. With `--body-model` SMPL's mesh is drawn instead of limbs.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from datasets.sample import plan_corpus
from datasets.sample.dances import make_dance
from datasets.sample.instruments import SAMPLE_RATE_HZ
from datasets.sample.songs import render_song
from utils.body_model import BodyMotion, load_body_model
from utils.dance import Dance
from utils.render.video import render_video
from utils.smpl import forward_kinematics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most 20")
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--body-model", type=Path, help="SMPL's licensed model: draw its mesh")
    arguments = parser.parse_args()
    frames = round(60 * arguments.seconds)
    sequence = plan_corpus()["test"][0]
    poses, translation = make_dance(sequence.song, sequence.name, sequence.dancer, frames, 0)
    joints, body = forward_kinematics(poses, translation), None
    if arguments.body_model is not None:
        turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(frames, -1, 4)
        body = BodyMotion(load_body_model(arguments.body_model), turns, joints[:, 0])
    codes = np.random.default_rng(0).integers(0, 512, (frames // 8, 2))
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder) / "song.wav"
        with wave.open(str(music), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
            file.writeframes(render_song(sequence.song).astype("<i2").tobytes())
        start, busy = time.perf_counter(), time.process_time()
        render_video(
            Path(folder) / "dance.mp4",
            Dance("dance", joints, np.arange(0, frames, 30), codes=codes),
            audio=music,
            title="benchmark",
            height=arguments.height,
            body=body,
        )
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
        size = (Path(folder) / "dance.mp4").stat().st_size
    print(f"{frames} frames of {arguments.height}p with sound, {size / 1e6:.1f} MB")
    print(f"{1e3 * wall / frames:.1f} ms per frame on the clock, {frames / 60 / wall:.1f} x real time")
    print(f"{1e3 * cpu / frames:.1f} ms of processor time per frame")


if __name__ == "__main__":
    main()
