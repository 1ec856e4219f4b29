"""Prepares data: AIST++ annotations and songs, or other data -> joints, music features, beats, manifest.

AIST++ to data/aistpp; with the features of the published weights; without songs, for --visgt and metrics:

    python prepare_aistpp_data.py --source DIR_OR_ZIP --songs DIR
    python prepare_aistpp_data.py --source DIR_OR_ZIP --songs DIR --features compat --out data/aistpp_compat
    python prepare_aistpp_data.py --source DIR_OR_ZIP --no-songs --beats beats.json

With bone rotations, which stage sep_vqvae_root_mix is trained on:

    python prepare_aistpp_data.py --source DIR_OR_ZIP --songs DIR --rotations

Your own songs, to data/songs:

    python prepare_aistpp_data.py --songs DIR

The authors' preprocessed JSON files; any other data (docs/DATA.md); the built-in corpus to data/sample:

    python prepare_aistpp_data.py --published DIR_OR_ZIP
    python prepare_aistpp_data.py --adapter DIR --out data/mine
    python prepare_aistpp_data.py --sample

It can be stopped at any moment; the same command then continues, and keeps everything that is finished.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from datasets.aistpp.layouts import aistpp_plan, plain_plan
from datasets.aistpp.preparation import WORKER_MEMORY, Plan, library_versions, prepare, report_lines, reserved
from datasets.aistpp.published import published_plan
from datasets.aistpp.songs import MusicOptions, songs_plan
from datasets.sequences import MANIFEST, read_manifest
from utils.body_model import add_shape_options, load_body_model
from utils.music import NEWEST, FeatureVersion, check_version
from utils.processors import start_worker, worker_count
from utils.recording import UP_AXES
from utils.skeleton import SKELETONS, SMPL_24
from utils.smpl import rest_joints
from utils.terminal import tolerant_output


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--source", type=Path, metavar="DIR|ZIP", help="AIST++ as distributed")
    what.add_argument(
        "--published", type=Path, metavar="DIR|ZIP", help="the authors' preprocessed JSON files"
    )
    what.add_argument(
        "--adapter", type=Path, metavar="DIR|ZIP", help="other data: motions/*.npy, songs, splits"
    )
    what.add_argument("--sample", action="store_true", help="make and prepare the built-in corpus")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default data/aistpp; data/sample, data/songs"
    )
    parser.add_argument(
        "--songs",
        type=Path,
        metavar="DIR",
        help="where the songs are (default: the source's wav, music, songs, mp3, ...); alone: no dances",
    )
    parser.add_argument(
        "--features",
        choices=get_args(FeatureVersion),
        help=f"version of the music features; default: that of the data in --out, else {NEWEST}",
    )
    parser.add_argument(
        "--music-fps", type=float, default=7.5, metavar="HZ", help="steps per second, default 7.5"
    )
    parser.add_argument(
        "--no-songs", "--allow-missing-songs", action="store_true", help="keep dances whose song is missing"
    )
    parser.add_argument(
        "--beats", type=Path, metavar="JSON", help="beats at 60 fps of songs without a sound file"
    )
    parser.add_argument(
        "--rotations",
        action="store_true",
        help="keep the bone rotations of AIST++ and the corpus too; default: as in the data in --out",
    )
    parser.add_argument(
        "--smpl",
        type=Path,
        metavar="DIR|FILE",
        help="joints of the body of a licensed SMPL model (default: rest joints that are built in)",
    )
    add_shape_options(parser)
    parser.add_argument(
        "--skeleton", choices=SKELETONS, default=SMPL_24.name, help=f"of --adapter, default {SMPL_24.name}"
    )
    parser.add_argument(
        "--fps", type=float, metavar="HZ", help="of files of --adapter that do not say theirs, default 60"
    )
    parser.add_argument("--up", choices=UP_AXES, help="the axis that points up in --adapter, default y")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes; default: one per processor that this process may use, as far as memory goes",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the built-in corpus, default 0")
    return parser


def build_plan(args: argparse.Namespace, out: Path, workers: int) -> Plan:
    """The plan that the command line describes; with --sample the corpus is made first.

    Raises:
        FileNotFoundError: if the source, its splits or its songs are missing.
        ValueError: if an option or a file that everything depends on is unfit.
    """
    if args.music_fps <= 0:
        raise ValueError(f"--music-fps must be positive, got {args.music_fps:g}")
    _refuse_idle(args)
    version = args.features or _version_there(out)
    music = MusicOptions(version, args.music_fps, args.songs, args.no_songs, args.beats)
    if args.published:
        return published_plan(args.published, args.no_songs)
    if args.adapter:
        return plain_plan(args.adapter, music, SKELETONS[args.skeleton], args.fps, args.up or "y")
    if not (args.source or args.sample):
        return songs_plan(music)
    rest, notes = _rest_joints(args)
    rotations = args.rotations or _rotations_there(out)
    if not args.sample:
        plan = aistpp_plan(args.source, rest, music, rotations=rotations)
        plan.notes += notes
        return plan
    from datasets.sample import make_corpus  # only here: it imports more than the rest

    with reserved(out), compiling_music_functions(workers > 1 and not (out / MANIFEST).is_file()):
        make_corpus(out / "raw", args.seed, workers)
    plan = aistpp_plan(out / "raw", rest, music, name="sample", rotations=rotations)
    plan.expected = None
    plan.notes += notes
    return plan


def _rest_joints(args: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """Rest joints (24, 3) in metres of the body that the options name, and remarks on it for the report."""
    built_in = rest_joints(args.gender)
    if not args.smpl:
        return built_in, []
    model = load_body_model(args.smpl, args.gender, tuple(args.betas))
    apart = 1000 * np.abs(model.rest_joints - built_in).max()
    betas = ", ".join(f"{beta:g}" for beta in args.betas) or "0"
    note = f"rest joints of {model.file}, betas {betas}: up to {apart:.1f} mm from the built-in {args.gender}"
    return model.rest_joints, [f"{note} ones"]


def _version_there(out: Path) -> FeatureVersion:
    """The version of the music features that a folder holds; the newest one if it holds none that is known.

    A folder that is prepared again keeps its version, so that its GPTs and the beats of its metrics stay.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        return check_version(read_manifest(out)["music"]["version"])
    return NEWEST


def _rotations_there(out: Path) -> bool:
    """Whether a folder holds bone rotations: one that is prepared again keeps them."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return any(entry.get("rotations") for entry in read_manifest(out)["sequences"].values())
    return False


@contextlib.contextmanager
def compiling_music_functions(wanted: bool) -> Iterator[None]:
    """Compile the functions of the music features in a process beside; wait for it at the end.

    On a new machine this takes half a minute, which all workers would otherwise spend on their first song.
    """
    if not wanted:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_compile_music_functions, daemon=True)
    process.start()
    yield
    process.join()


def _compile_music_functions() -> None:
    start_worker()
    from datasets.music import compile_functions  # librosa is slow to import

    compile_functions()


def _refuse_idle(args: argparse.Namespace) -> None:
    """Raises ValueError for options that have no effect."""
    joints = {"--smpl": args.smpl, "--betas": args.betas, "--rotations": args.rotations}
    songs = {"--songs": args.songs, "--beats": args.beats}
    idle: dict[str, object] = {}
    if args.published:
        what, idle = "--published", joints | songs
    elif args.adapter:
        what, idle = "--adapter", joints
    elif args.sample:
        what, idle = "--sample", songs
    elif not args.source:
        what, idle = "--songs alone", joints | {"--beats": args.beats, "--no-songs": args.no_songs}
    if args.betas and not args.smpl:
        raise ValueError("--betas goes with --smpl only: body shapes are in SMPL's model files")
    if args.rotations and (args.gender != "male" or args.betas):
        raise ValueError(
            "--rotations are those of AIST++'s mean male body, as are decoded dances; "
            "leave out --gender and --betas"
        )
    skeleton = None if args.skeleton == SMPL_24.name else args.skeleton
    for option, value in (("--skeleton", skeleton), ("--fps", args.fps), ("--up", args.up)):
        if value is not None and not args.adapter:
            raise ValueError(f"{option} {value} goes with --adapter only")
    given = [option for option, value in idle.items() if value]
    if given:
        raise ValueError(f"{' and '.join(given)} would change nothing beside {what}; leave it out")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    tolerant_output()
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not (args.source or args.published or args.adapter or args.sample or args.songs):
        parser.error(
            "one of --source, --published, --adapter, --sample or, for songs alone, --songs is needed"
        )
    dances = args.source or args.published or args.adapter
    out = args.out or Path("data") / ("aistpp" if dances else "sample" if args.sample else "songs")
    workers = args.workers or worker_count(WORKER_MEMORY)
    try:
        plan = build_plan(args, out, workers)
        done = prepare(plan, out, library_versions(), workers, progress=sys.stderr.isatty())
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; what is done stays in {out}, the same command goes on from there", file=sys.stderr)
        return 130
    print("\n".join(report_lines(done.manifest)))
    print(f"this run  {done.fresh} made, {done.kept} were there already -> {out / 'manifest.json'}")
    return 0


if __name__ == "__main__":
    for library in ("OMP", "OPENBLAS", "MKL"):  # one thread per worker is fastest
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    sys.exit(main())
