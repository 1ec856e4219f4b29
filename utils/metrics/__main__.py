"""Score any dances, from this code base or elsewhere.

    python -m utils.metrics DANCES --reference DATA [--protocol bailando|corrected|both] [--fps 60]
                            [--music SONGS]

DANCES is a file or a folder (.npz, .npy, .pkl.npy, .pkl). DATA is a prepared folder that holds
reference_features.npz, such a file, a .npz of published features (names, kinetic, geometric), or a folder of
real dances. Writes metrics.json, dances.csv, table.md and
plots per protocol to --out.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from utils.dance import Dance
from utils.metrics.dances import MAX_FRAMES, DanceFeatures, dance_features
from utils.metrics.pictures import save_plots
from utils.metrics.protocols import PROTOCOLS, ProtocolName
from utils.metrics.reading import Found, read_dances
from utils.metrics.reference import MANIFEST, Reference
from utils.metrics.report import evaluate, write_report
from utils.metrics.songs import Songs, with_music
from utils.music import FeatureVersion, check_version
from utils.recording import UP_AXES
from utils.skeleton import SMPL_24
from utils.terminal import tolerant_output


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m utils.metrics", description="Scores a folder of dances.", allow_abbrev=False
    )
    p.add_argument("dances", type=Path, help="a dance file or a folder of them: .npz .npy .pkl.npy .pkl")
    p.add_argument(
        "--reference", type=Path, help="prepared folder, .npz of features, or folder of real dances"
    )
    p.add_argument("--protocol", choices=[*PROTOCOLS, "both"], default="bailando", help="default: bailando")
    p.add_argument(
        "--fps", type=float, default=SMPL_24.fps, help="of dances and beat frames that do not say theirs (60)"
    )
    p.add_argument("--up", choices=UP_AXES, default="y", help="the axis that points up in the files (y)")
    p.add_argument(
        "--music", type=Path, help="beats or songs, found by name: .json .npy .npz .txt or audio files"
    )
    p.add_argument(
        "--max-frames", type=int, default=MAX_FRAMES, help="cut dances, at 60 fps; 0 = whole (1200)"
    )
    p.add_argument(
        "--rl-saw-songs", choices=("yes", "no"), help="was reinforcement learning done on these songs?"
    )
    p.add_argument("--first-code", choices=("real", "fixed", "none"), help="where the first code came from")
    p.add_argument("--seed", type=int, default=0, help="of shuffles, floor and bootstrap (0)")
    p.add_argument("--skip-bad", action="store_true", help="leave out dances that cannot be read, and say so")
    p.add_argument("--no-plots", action="store_true", help="no pictures")
    p.add_argument("--out", type=Path, help="where the files go (DANCES/metrics, or beside the file)")
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
    """Reads, scores, prints and writes.

    Raises:
        ValueError: naming what is wrong with the options or a file.
        FileNotFoundError: naming what is missing.
    """
    if options.max_frames and options.max_frames < 2:
        raise ValueError(f"--max-frames must be 0 or at least 2, got {options.max_frames}")
    found = read_dances(options.dances, options.fps, options.up, options.skip_bad)
    reference = None if options.reference is None else read_reference(options.reference, options)
    songs = Songs(options.music, _version(options.reference), options.fps) if options.music else None
    if songs is not None and songs.skipped:
        print(f"neither beats nor songs: {', '.join(songs.skipped[:10])}", file=sys.stderr)
    if songs is None and options.reference is not None and (options.reference / "music").is_dir():
        songs = Songs(options.reference)
    dances = [with_music(dance, songs, reference) for dance in found.dances]
    if options.music and songs is not None and songs.unused:
        unused = songs.unused
        more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
        print(f"beats that match no dance: {', '.join(unused[:10])}{more}", file=sys.stderr)
    max_frames = options.max_frames or None
    features = _features(dances, max_frames, "features")
    folder = options.dances if options.dances.is_dir() else options.dances.parent
    out = options.out or folder / "metrics"
    both: list[ProtocolName] = ["bailando", "corrected"]
    names = both if options.protocol == "both" else [options.protocol]
    for name in names:
        report = evaluate(
            features,
            reference,
            name,
            max_frames=max_frames,
            rl_saw_songs=None if options.rl_saw_songs is None else options.rl_saw_songs == "yes",
            first_code=options.first_code,
            seed=options.seed,
            skipped=found.skipped,
        )
        report = replace(report, notes=[*report.notes, *remarks(found)])
        own = out / name if len(names) > 1 else out
        write_report(report, own)
        if not options.no_plots:
            save_plots(report, dances, reference, own / "plots", max_frames)
        print(report.markdown())
        print(f"written to {own}")


def read_reference(path: Path, options: argparse.Namespace) -> Reference:
    """The real set: features kept in a file or a prepared folder, or computed from a folder of dances.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of other data.
    """
    if not path.is_dir() or (path / MANIFEST).is_file():
        return Reference.load(path)
    songs = Songs(options.music, fps=options.fps) if options.music else None
    found = read_dances(path, options.fps, options.up, options.skip_bad)
    for name, why in found.skipped.items():
        print(f"not in the reference: {name}: {why}", file=sys.stderr)
    for remark in remarks(found):
        print(f"in the reference: {remark}", file=sys.stderr)
    dances = [with_music(dance, songs, None) for dance in found.dances]
    return Reference.of(_features(dances, None, "reference"), str(path))


def remarks(found: Found) -> list[str]:
    """Return what is wrong with the dances, a remark per line: units, axes, joints, implausible motion."""
    return [f"{name}: {text}" for name, texts in found.remarks.items() for text in texts]


def _version(reference: Path | None) -> FeatureVersion:
    """The version of the music features of a prepared folder; `standard` for all else."""
    if reference is None or not (reference / MANIFEST).is_file():
        return "standard"
    try:
        return check_version(json.loads((reference / MANIFEST).read_bytes())["music"]["version"])
    except (ValueError, KeyError, TypeError):
        return "standard"  # reading the reference reports a damaged manifest


def _features(dances: list[Dance], max_frames: int | None, what: str) -> list[DanceFeatures]:
    return [
        dance_features(dance, max_frames) for dance in tqdm(dances, desc=what, unit="dance", disable=None)
    ]


if __name__ == "__main__":
    sys.exit(main())
