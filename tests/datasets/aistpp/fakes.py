"""Small made-up data sets in the layouts the preparation reads."""

import json
import pickle
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.aistpp.layouts import aistpp_plan
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions
from datasets.sequences import num_features
from utils.smpl import forward_kinematics, rest_joints

NAMES = ("gBR_sBM_cAll_d04_mBR0_ch01", "gBR_sBM_cAll_d04_mBR0_ch02", "gPO_sFM_cAll_d10_mPO1_ch03")


class FakeFeatures(NamedTuple):
    features: np.ndarray
    beats: np.ndarray


def fake_song_features(path, version="standard", code_fps=7.5, beat_fps=60.0) -> FakeFeatures:
    """Stands for the extractor, which has its own tests: quick, decided by file and version alone."""
    content = Path(path).read_bytes()
    if not content.startswith(b"RIFF"):
        raise ValueError(f"{path} is no sound file")
    seconds = (len(content) - 44) / 2 / 8000
    rng = np.random.default_rng(len(content) + len(version))
    beats = np.zeros(1 + int(seconds * beat_fps), bool)
    beats[::30] = True
    shape = 1 + int(seconds * code_fps), num_features(version)
    return FakeFeatures(rng.normal(size=shape).astype(np.float32), beats)


def motion(frames: int = 120, seed: int = 0) -> dict:
    """SMPL parameters of a body that sways, as in an AIST++ pickle."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 60
    poses = 0.3 * np.sin(2 * np.pi * (rng.uniform(0.5, 2, 72) * time + rng.uniform(0, 1, 72)))
    trans = 90 * np.stack([0.2 * np.sin(time[:, 0]), np.ones(frames), 0.2 * np.cos(time[:, 0])], 1)
    return {
        "smpl_loss": 1.5,
        "smpl_poses": poses.astype(np.float32),
        "smpl_scaling": np.array([90.0], np.float32),
        "smpl_trans": trans.astype(np.float32),
    }


def write_motion(root: Path, name: str, content) -> Path:
    path = root / "motions" / f"{name}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def write_wav(path: Path, seconds: float = 2.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    clicks = np.sin(2 * np.pi * 440 * time) * np.exp(-20 * (time % 0.5))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((clicks * 2e4).astype("<i2").tobytes())


def official(root: Path, frames: int = 120) -> Path:
    """Three dances: one to train, two to test; two songs; one name ignored."""
    for seed, name in enumerate(NAMES):
        write_motion(root, name, motion(frames, seed))
    for song, seconds in (("mBR0", 2.0), ("mPO1", 3.0)):
        write_wav(root / "wav" / f"{song}.wav", seconds)
    lists = {"train": NAMES[1:2], "val": NAMES[:1], "test": NAMES[2:]}
    (root / "splits").mkdir()
    for split, names in lists.items():
        (root / "splits" / f"crossmodal_{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "ignore_list.txt").write_text("gWA_sBM_cAll_d25_mWA0_ch01\n")
    return root


def published(root: Path, frames: int = 64) -> Path:
    """The authors' JSON files: a dance to train and one to test, and the songs at 7.5 fps."""
    rng = np.random.default_rng(0)
    for folder, name in (("aistpp_train_wav", NAMES[1]), ("aistpp_test_full_wav", NAMES[2])):
        (root / folder).mkdir(parents=True)
        music = rng.normal(size=(frames, 438))
        music[:, 53] = np.arange(frames) % 20 == 3
        dance = rng.normal(0, 0.3, (frames, 72))
        (root / folder / f"{name}.json").write_text(
            json.dumps({"id": name, "music_array": music.tolist(), "dance_array": dance.tolist()})
        )
    (root / "aistpp_music_feat_7.5fps").mkdir()
    for song in ("mBR0", "mPO1"):
        table = {"music_array": rng.normal(size=(frames // 8, 438)).tolist()}
        (root / "aistpp_music_feat_7.5fps" / f"{song}.json").write_text(json.dumps(table))
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def run(source, out, **music):
    return prepare(aistpp_plan(source, rest_joints(), MusicOptions(**music)), out, {}, progress=False)


def body(frames: int = 240, fps: float = 60, seed: int = 0) -> np.ndarray:
    """Joints (T, 24, 3) of a standing, swaying body with hanging arms, travelling; the same at any rate."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / fps
    poses = 0.15 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5, 72) * time + rng.uniform(0, 1, 72)))
    poses = poses.reshape(frames, 24, 3)
    poses[:, [16, 17], 2] += [-1.2, 1.2]
    travel = np.concatenate([0.3 * np.sin(time), 0 * time, 0.3 * np.cos(time)], 1)
    return forward_kinematics(poses.reshape(frames, 72), travel)
