"""A dance as an mp4 with its song: the halves in two colours, on a floor that shows the travel."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from utils.body_model import BodyMotion
from utils.dance import Dance, checked
from utils.render.canvas import Canvas
from utils.render.movie import Movie, read_song
from utils.render.overlay import Overlay
from utils.render.scene import Scene

_FLASH_SECONDS = 0.14  # in which a beat's flash falls to 1 / e


def render_video(
    path: Path,
    dance: Dance,
    *,
    audio: Path | None = None,
    title: str = "",
    height: int = 540,
    progress: bool = False,
    body: BodyMotion | None = None,
) -> None:
    """Draw a dance as an mp4 (H.264, and AAC where there is a song), 16:9.

    Each code is shown for `frames_per_code` frames, the last one until the end.

    Args:
        path: of the video; written beside and renamed.
        dance: what is drawn, with its codes and music beats if they are known.
        audio: sound file of the song; cut to the length of the dance. If it is missing, the video is
            silent and a warning names it.
        title: written at the top left.
        height: of the picture, pixels, at least 64; rounded up to an even number.
        progress: show a progress bar.
        body: drawn instead of a figure of limbs; its joints are those of the dance.

    Raises:
        ValueError: if a part of the dance is not as `Dance` says, the height is too small, or the sound file
            holds no sound.
    """
    if height < 64:
        raise ValueError(f"height {height} must be at least 64")
    dance = checked(dance)
    frames, fps, codes = len(dance.joints), dance.fps, dance.codes
    beats = np.zeros(0, np.int64) if dance.music_beats is None else dance.music_beats
    strengths = beat_strengths(beats, frames, fps)
    height += height % 2
    width = 2 * round(height * 16 / 9 / 2)
    scene = Scene(dance.joints, dance.skeleton, fps, width, height, strengths, body)
    canvas = Canvas(width, height)
    overlay = Overlay(width, height, frames, fps, title, beats, strengths)
    canvas.pixels[:] = scene.background
    overlay.prepare(canvas)
    scene.background = canvas.pixels.copy()
    with Movie(path, width, height, fps, read_song(audio, frames / fps)) as movie:
        for frame in tqdm(range(frames), Path(path).name, disable=None if progress else True, leave=False):
            scene.draw(canvas, frame)
            row = None if codes is None else codes[min(frame // dance.frames_per_code, len(codes) - 1)]
            overlay.draw(canvas, frame, None if row is None else (int(row[0]), int(row[1])))
            movie.write(canvas.pixels)


def beat_strengths(frames: np.ndarray, num_frames: int, fps: float) -> np.ndarray:
    """(T,) pulse of the beats: 1 at each, then falling exponentially."""
    strengths = np.zeros(num_frames)
    if len(frames):
        now = np.arange(num_frames)
        last = np.searchsorted(frames, now, side="right") - 1
        since = (now - frames[np.maximum(last, 0)]) / fps
        strengths = np.where(last >= 0, np.exp(-since / _FLASH_SECONDS), 0.0)
    return strengths
