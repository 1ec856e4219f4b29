"""Dances as one self-contained web page: turn it, seek in it, hear the song, see the codes and the beats.

    python -m utils.render.player DANCE.npz [OTHER.npz ...] [--song FILE] --out page.html

The page asks the network nothing, opens from a disk by a double click, and holds up to four dances side by
side on one clock. It draws what the videos draw; player.html, player.css and player_*.js are its parts.
"""

import argparse
import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import write_beside
from utils.metrics.beats import beat_indices, motion_beats
from utils.metrics.reading import NotADance, read_dance
from utils.metrics.songs import track_beats
from utils.render.figure import LOWER, UPPER, Palette
from utils.render.player_data import hex_colour, pack, skeleton_facts, speed_curve, stage
from utils.render.player_page import fill
from utils.render.player_song import song_bytes
from utils.render.video import beat_frames, checked_codes, checked_joints
from utils.render.wording import meanings, worded
from utils.skeleton import SMPL_24, Skeleton
from utils.terminal import tolerant_output

MOST_DANCES = 4
_STYLES = ("player.css", "facts.css")
_SCRIPTS = (
    "facts.js",
    "player_dance.js",
    "player_camera.js",
    "player_stage.js",
    "player_timeline.js",
    "player_clock.js",
    "player_page.js",
)


@dataclass(frozen=True)
class PlayerDance:
    """A dance of a page.

    Attributes:
        name: what stands below it; any text.
        joints: (T, J, 3) metres, y up.
        codes: (T', 2) upper and lower code, or None.
        music_beats: (N,) bool flags per frame, or frame indices; None if not known.
        motion_beats: likewise; None: found in the joints, as the metrics do.
        facts: what stands below the name: metrics and the like, in this order.
        fps: frames per second.
        frames_per_code: frames that a code stands for.
    """

    name: str
    joints: np.ndarray
    codes: np.ndarray | None = None
    music_beats: np.ndarray | None = None
    motion_beats: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    fps: float = SMPL_24.fps
    frames_per_code: int = 8


def write_player(
    path: Path,
    dances: Sequence[PlayerDance],
    song: Path | None = None,
    title: str = "",
    *,
    skeleton: Skeleton = SMPL_24,
) -> None:
    """Writes dances as one HTML file that holds everything it needs, song included.

    A minute of a dance takes 0.7 MB, a minute of a song 1 MB.

    Args:
        path: of the page; written beside and renamed.
        dances: one to four, danced to the same song, shown side by side; they may differ in length.
        song: sound file; cut to the longest dance. None: the dances are silent.
        title: of the page; any text. Empty: the names of the dances.
        skeleton: whose joints they are.

    Raises:
        ValueError: if there are no or too many dances, one does not have the shape or values above (NaN
            included), or the song holds no sound.
        FileNotFoundError: if the song is missing.
    """
    if not 1 <= len(dances) <= MOST_DANCES:
        raise ValueError(f"a page shows 1 to {MOST_DANCES} dances, got {len(dances)}")
    content = [_content(dance, skeleton) for dance in dances]
    seconds = max(dance["frames"] / dance["fps"] for dance in content)
    title = title or " · ".join(dance.name for dance in dances)
    data = {
        "title": title,
        "seconds": seconds,
        "song": None if song is None else base64.b64encode(song_bytes(song, seconds)).decode(),
        "skeleton": skeleton_facts(skeleton, Palette()),
        "upper": hex_colour(UPPER),
        "lower": hex_colour(LOWER),
        "meanings": meanings(name for dance in dances for name in dance.facts),
        "dances": content,
    }
    page = fill("player.html", _STYLES, _SCRIPTS, title, data, "img-src data:; media-src blob:")
    write_beside(Path(path), page)


def _content(dance: PlayerDance, skeleton: Skeleton) -> dict[str, Any]:
    """A dance as the page's script wants it; times are in seconds."""
    joints = checked_joints(dance.joints, skeleton, dance.name)
    if not (np.isfinite(dance.fps) and dance.fps > 0) or dance.frames_per_code < 1:
        raise ValueError(
            f"{dance.name}: fps {dance.fps} and frames_per_code {dance.frames_per_code} must be positive"
        )
    joints, frames, fps = joints.astype(np.float64), len(joints), float(dance.fps)
    codes = None if dance.codes is None or not len(dance.codes) else checked_codes(dance.codes)
    moves = dance.motion_beats
    if moves is None:
        moves = motion_beats(joints, fps) if frames > 2 else np.zeros(0, int)
    packed = pack(joints)
    return {
        "name": dance.name,
        "fps": fps,
        "frames": frames,
        **packed._asdict(),
        **stage(joints, skeleton, fps),
        **speed_curve(joints, fps),
        "codeSeconds": dance.frames_per_code / fps,
        "upper": [] if codes is None else codes[:, 0].tolist(),
        "lower": [] if codes is None else codes[:, 1].tolist(),
        "musicBeats": _seconds(dance.music_beats, frames, fps),
        "motionBeats": _seconds(moves, frames, fps),
        "facts": [[str(name), worded(name, value)] for name, value in dance.facts.items()],
    }


def _seconds(beats: np.ndarray | None, frames: int, fps: float) -> list[float]:
    return np.round(beat_frames(beats, frames) / fps, 3).tolist()


def read_player_dance(path: Path, name: str = "", frames_per_code: int = 8) -> PlayerDance:
    """A dance from a file, as the evaluation writes them: `joints`, and if there, codes, fps, beats and song.

    Args:
        path: .npz, or another file that `python -m utils.metrics` reads.
        name: what to call it; empty: as the file.
        frames_per_code: frames that a code stands for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no dance {path}; `main.py --eval` writes dances to eval/*/motions")
    try:
        dance = read_dance(path)
    except NotADance as reason:
        raise ValueError(f"{path} is no dance: {reason.why}") from None
    codes = None
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as file:
            codes = file["codes"] if "codes" in file else None
    beats = dance.music_beats
    try:
        beats = None if beats is None else beat_indices(beats, len(dance.joints))
        codes = None if codes is None or not len(codes) else checked_codes(codes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return PlayerDance(
        name or dance.name,
        np.asarray(dance.joints),
        codes,
        beats,
        facts={"song": dance.song} if dance.song else {},
        fps=dance.fps,
        frames_per_code=frames_per_code,
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m utils.render.player",
        description="Shows dances in one self-contained web page.",
        allow_abbrev=False,
    )
    p.add_argument("dances", type=Path, nargs="+", metavar="DANCE.npz", help="one to four dances")
    p.add_argument("--song", type=Path, help="sound file; its beats are tracked where a dance has none")
    p.add_argument("--names", nargs="+", default=[], help="what to call the dances, in their order")
    p.add_argument("--title", default="", help="of the page (the names of the dances)")
    p.add_argument("--frames-per-code", type=int, default=8, help="frames that a code stands for (8)")
    p.add_argument("--out", type=Path, required=True, help="the page, an .html file")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 after a message about what is wrong."""
    tolerant_output()
    options = parser().parse_args(arguments)
    try:
        run(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Reads, writes the page, and says how large it is.

    Raises:
        ValueError: naming what is wrong with the options or a file.
        FileNotFoundError: naming what is missing.
    """
    if options.names and len(options.names) != len(options.dances):
        raise ValueError(f"--names gives {len(options.names)} names to {len(options.dances)} dances")
    if options.song is not None and not options.song.is_file():
        raise FileNotFoundError(f"there is no song {options.song}; check the path and the spelling")
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {options.out} should end in .html, so that a browser opens it")
    names = options.names or _names(options.dances)
    dances = [
        read_player_dance(path, name, options.frames_per_code)
        for path, name in zip(options.dances, names, strict=True)
    ]
    if options.song is not None and any(dance.music_beats is None for dance in dances):
        times = track_beats(options.song)
        dances = [
            dance
            if dance.music_beats is not None
            else PlayerDance(**{**vars(dance), "music_beats": np.round(times * dance.fps).astype(int)})
            for dance in dances
        ]
    title = options.title or " · ".join(dict.fromkeys(path.stem for path in options.dances))
    write_player(options.out, dances, options.song, title)
    print(f"{options.out} ({options.out.stat().st_size / 1e6:.1f} MB) shows {', '.join(names)}")


def _names(paths: Sequence[Path]) -> list[str]:
    """File names, or the folders that files of one name lie in, as `GPT` and `actor-critic`."""
    names = [path.stem for path in paths]
    folders = [path.resolve().parent.name.replace("_", " ") for path in paths]
    return names if len(set(names)) == len(names) else folders


if __name__ == "__main__":
    sys.exit(main())
