"""A dance as an mp4 with its song: the halves in two colours, on a floor that shows the travel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.render.canvas import Canvas
from utils.render.movie import Movie, read_song
from utils.render.overlay import Overlay
from utils.render.scene import Scene
from utils.skeleton import SMPL_24, Skeleton

_FLASH_SECONDS = 0.14  # in which a beat's flash falls to 1 / e


def render_video(
    path: Path,
    joints: np.ndarray,
    *,
    skeleton: Skeleton = SMPL_24,
    fps: float = SMPL_24.fps,
    codes: np.ndarray | None = None,
    frames_per_code: int = 8,
    music_beats: np.ndarray | None = None,
    song: Path | None = None,
    title: str = "",
    height: int = 540,
    progress: bool = False,
) -> None:
    """Draw a dance as an mp4 (H.264, and AAC where there is a song), 16:9.

    Args:
        path: of the video; written beside and renamed.
        joints: (T, J, 3) metres, y up.
        skeleton: whose joints they are.
        fps: frames per second.
        codes: (T', 2) upper and lower code; each shown for `frames_per_code` frames, the last until the end.
        frames_per_code: frames that a code stands for.
        music_beats: (N,) bool flags per frame, of any length, or frame indices; those after the end are left
            out.
        song: sound file; cut to the length of the dance. Where it is missing, the video is silent and a
            warning names it.
        title: written at the top left.
        height: of the picture, pixels; rounded up to an even number.
        progress: show a progress bar.

    Raises:
        ValueError: if an argument does not have the shape or values above, or the song holds no sound.
    """
    _render(
        path,
        {"joints": joints},
        skeleton,
        fps,
        codes,
        frames_per_code,
        music_beats,
        song,
        title,
        height,
        progress,
    )


def render_side_by_side(
    path: Path,
    dances: Mapping[str, np.ndarray],
    *,
    skeleton: Skeleton = SMPL_24,
    fps: float = SMPL_24.fps,
    music_beats: np.ndarray | None = None,
    song: Path | None = None,
    title: str = "",
    height: int = 540,
    progress: bool = False,
) -> None:
    """Draw several dances to the same song in panels beside each other, up to the end of the shortest.

    Args:
        path: of the video; written beside and renamed.
        dances: (T, J, 3) metres, y up, under the name that is written below each.
        skeleton: whose joints they are.
        fps: frames per second.
        music_beats: as in `render_video`.
        song: as in `render_video`.
        title: written at the top left.
        height: of the picture, pixels; rounded up to an even number.
        progress: show a progress bar.

    Raises:
        ValueError: as `render_video`; also if there is no dance.
    """
    _render(path, dances, skeleton, fps, None, 1, music_beats, song, title, height, progress)


def _render(
    path: Path,
    dances: Mapping[str, np.ndarray],
    skeleton: Skeleton,
    fps: float,
    codes: np.ndarray | None,
    frames_per_code: int,
    music_beats: np.ndarray | None,
    song: Path | None,
    title: str,
    height: int,
    progress: bool,
) -> None:
    if not dances:
        raise ValueError("there is no dance to draw")
    if not fps > 0 or frames_per_code < 1 or height < 64:
        raise ValueError(
            f"fps {fps} and frames_per_code {frames_per_code} must be positive, height {height} at least 64"
        )
    checked = {name: checked_joints(joints, skeleton, name) for name, joints in dances.items()}
    codes = None if codes is None else checked_codes(codes)
    num_frames = min(len(joints) for joints in checked.values())
    beats = beat_frames(music_beats, num_frames)
    strengths = beat_strengths(beats, num_frames, fps)
    height += height % 2
    width = 2 * round(height * (16 / 9 if len(checked) == 1 else 0.75) / 2)
    scenes = [
        Scene(joints[:num_frames], skeleton, fps, width, height, strengths) for joints in checked.values()
    ]
    panel, whole = Canvas(width, height), Canvas(width * len(scenes), height)
    places = [slice(place * width, (place + 1) * width) for place in range(len(scenes))]
    overlay = Overlay(whole.width, height, num_frames, fps, title, beats, strengths)
    for scene, place in zip(scenes, places, strict=True):
        whole.pixels[:, place] = scene.background
    overlay.prepare(whole)
    for scene, place, name in zip(scenes, places, checked, strict=True):
        if len(scenes) > 1:
            overlay.label(whole, place.start + width / 2, name)
        scene.background = whole.pixels[:, place].copy()
    with Movie(path, whole.width, height, fps, read_song(song, num_frames / fps)) as movie:
        for frame in tqdm(range(num_frames), Path(path).name, disable=not progress, leave=False):
            if len(scenes) == 1:
                scenes[0].draw(whole, frame)
            else:
                for scene, place in zip(scenes, places, strict=True):
                    scene.draw(panel, frame)
                    whole.pixels[:, place] = panel.pixels
            row = None if codes is None else codes[min(frame // frames_per_code, len(codes) - 1)]
            overlay.draw(whole, frame, None if row is None else (int(row[0]), int(row[1])))
            movie.write(whole.pixels)


def checked_joints(joints: Any, skeleton: Skeleton, where: str) -> np.ndarray:
    """(T, J, 3) finite joints.

    Raises:
        ValueError: naming what is wrong with them.
    """
    joints = np.asarray(joints)
    if joints.ndim != 3 or joints.shape[1:] != (skeleton.num_joints, 3) or joints.dtype.kind not in "fiu":
        raise ValueError(
            f"{where}: expected (T, {skeleton.num_joints}, 3) numbers, got {joints.dtype} {joints.shape}"
        )
    if not len(joints):
        raise ValueError(f"{where}: the dance is empty")
    broken = ~np.isfinite(joints).all((1, 2))
    if broken.any():
        raise ValueError(
            f"{where}: {broken.sum()} of {len(joints)} frames hold NaN or infinity, first {broken.argmax()}"
        )
    return joints


def checked_codes(codes: Any) -> np.ndarray:
    """(T', 2) codes.

    Raises:
        ValueError: if they have another shape, or are not integers, or there is none.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != 2 or not len(codes) or codes.dtype.kind not in "iu":
        raise ValueError(
            f"codes: expected (T', 2) integers, upper and lower, got {codes.dtype} {codes.shape}"
        )
    return codes


def beat_frames(music_beats: Any, num_frames: int) -> np.ndarray:
    """Frames of the beats, ascending, those of the dance only.

    Raises:
        ValueError: if they are neither (N,) flags nor (N,) frame indices.
    """
    beats = np.asarray([] if music_beats is None else music_beats)
    if beats.ndim != 1 or (len(beats) and beats.dtype.kind not in "biu"):
        raise ValueError(
            f"music_beats: expected (N,) flags or frame indices, got {beats.dtype} {beats.shape}"
        )
    frames = np.flatnonzero(beats) if beats.dtype.kind == "b" else np.unique(beats).astype(int)
    return frames[(frames >= 0) & (frames < num_frames)]


def beat_strengths(frames: np.ndarray, num_frames: int, fps: float) -> np.ndarray:
    """(T,) pulse of the beats: 1 at each, then falling exponentially."""
    strengths = np.zeros(num_frames)
    if len(frames):
        now = np.arange(num_frames)
        last = np.searchsorted(frames, now, side="right") - 1
        since = (now - frames[np.maximum(last, 0)]) / fps
        strengths = np.where(last >= 0, np.exp(-since / _FLASH_SECONDS), 0.0)
    return strengths
