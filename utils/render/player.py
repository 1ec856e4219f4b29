"""Dances as one self-contained web page: a camera to turn, a time line, the song, codes and beats.

    python -m utils.render.player DANCE.npz [OTHER.npz ...] [--song FILE] --out page.html

The page needs no network, opens from a disk by a double click, and holds up to four dances side by side on
one clock. It draws what the videos draw; player.html, player.css and player_*.js are its parts.
"""

import argparse
import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.dance import Dance, checked
from utils.files import write_beside
from utils.metrics.beats import motion_beats
from utils.metrics.reading import NotADance, read_dance
from utils.metrics.songs import track_beats
from utils.music.tempo import tempo_of
from utils.render.figure import LOWER, UPPER, Palette
from utils.render.player_data import hex_colour, pack, skeleton_facts, speed_curve, stage
from utils.render.player_page import fill
from utils.render.player_song import song_bytes
from utils.render.wording import meanings, worded
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


def write_player(
    path: Path,
    dances: Sequence[Dance],
    audio: Path | None = None,
    title: str = "",
    facts: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write dances as one HTML file that holds everything it needs, song included.

    Motion beats are found in the joints, as the metrics do. A minute of a dance takes 0.7 MB, a minute of a
    song 1 MB.

    Args:
        path: of the page; written beside and renamed.
        dances: one to four, to the same song and of the same skeleton, shown side by side under their names;
            they may differ in length.
        audio: sound file of the song; cut to the longest dance. None: the dances are silent.
        title: of the page; any text. Empty: the names of the dances.
        facts: for each dance, metrics and the like that are shown below its name, in their order; none if
            empty.

    Raises:
        ValueError: if there are no or too many dances, a part of one is not as `Dance` says, or the sound
            file holds no sound.
        FileNotFoundError: if the sound file is missing.
    """
    if not 1 <= len(dances) <= MOST_DANCES:
        raise ValueError(f"a page shows 1 to {MOST_DANCES} dances, got {len(dances)}")
    facts = facts or [{} for _ in dances]
    content = [_content(dance, shown) for dance, shown in zip(dances, facts, strict=True)]
    seconds = max(dance["frames"] / dance["fps"] for dance in content)
    title = title or " · ".join(dance.name for dance in dances)
    data = {
        "title": title,
        "seconds": seconds,
        "song": None if audio is None else base64.b64encode(song_bytes(audio, seconds)).decode(),
        "skeleton": skeleton_facts(dances[0].skeleton, Palette()),
        "upper": hex_colour(UPPER),
        "lower": hex_colour(LOWER),
        "meanings": meanings(name for shown in facts for name in shown),
        "dances": content,
    }
    page = fill("player.html", _STYLES, _SCRIPTS, title, data, "img-src data:; media-src blob:")
    write_beside(Path(path), page)


def _content(dance: Dance, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A dance as the page's script reads it; times are in seconds."""
    dance = checked(dance)
    joints, frames, fps = dance.joints.astype(np.float64), len(dance.joints), float(dance.fps)
    moves = motion_beats(joints, fps) if frames > 2 else np.zeros(0, int)
    beats = np.zeros(0) if dance.music_beats is None else dance.music_beats
    return {
        "name": dance.name,
        "fps": fps,
        "frames": frames,
        **pack(joints)._asdict(),
        **stage(joints, dance.skeleton, fps),
        **speed_curve(joints, fps),
        "codeSeconds": dance.frames_per_code / fps,
        "upper": [] if dance.codes is None else dance.codes[:, 0].tolist(),
        "lower": [] if dance.codes is None else dance.codes[:, 1].tolist(),
        "musicBeats": np.round(beats / fps, 3).tolist(),
        "motionBeats": np.round(moves / fps, 3).tolist(),
        "facts": [[str(name), worded(name, value)] for name, value in facts.items()],
    }


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
    """Run the command; returns its exit status: 0, or 2 after an error message."""
    tolerant_output()
    options = parser().parse_args(arguments)
    try:
        run(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Read the dances, write the page, and print its size.

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
        replace(_read(path), name=name, frames_per_code=options.frames_per_code)
        for path, name in zip(options.dances, names, strict=True)
    ]
    if options.song is not None and any(dance.music_beats is None for dance in dances):
        times = track_beats(options.song)
        dances = [
            dance
            if dance.music_beats is not None
            else replace(dance, music_beats=np.round(times * dance.fps).astype(int))
            for dance in dances
        ]
    title = options.title or " · ".join(dict.fromkeys(path.stem for path in options.dances))
    facts = [_facts(dance) for dance in dances]
    write_player(options.out, dances, options.song, title, facts)
    print(f"{options.out} ({options.out.stat().st_size / 1e6:.1f} MB) shows {', '.join(names)}")


def _facts(dance: Dance) -> dict[str, str]:
    """What is known of the song: its name, and the tempo that it was given or that of its beats."""
    facts = {"song": dance.song} if dance.song else {}
    if "tempo" in dance.provenance:
        facts["tempo"] = str(dance.provenance["tempo"])
    elif dance.music_beats is not None:
        facts["tempo"] = str(tempo_of(np.asarray(dance.music_beats), dance.fps))
    return facts


def _read(path: Path) -> Dance:
    """A dance of any file that `python -m utils.metrics` reads."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no dance {path}; `main.py --eval` writes dances to eval/*/motions")
    try:
        return read_dance(path)
    except NotADance as reason:
        raise ValueError(f"{path} is no dance: {reason.why}") from None


def _names(paths: Sequence[Path]) -> list[str]:
    """File names; if those are equal, the folders of the files, as `GPT` and `actor-critic`."""
    names = [path.stem for path in paths]
    folders = [path.resolve().parent.name.replace("_", " ") for path in paths]
    return names if len(set(names)) == len(names) else folders


if __name__ == "__main__":
    sys.exit(main())
