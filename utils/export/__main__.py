"""Convert dance files (.npz) to BVH, glTF, SMPL parameters, video and web page.

    python -m utils.export DANCE.npz [...] [--bvh] [--glb] [--smpl] [--level] [--footlock] [--out DIR]

A dance is any file that `python -m utils.metrics` reads. The formats are those of
`utils.dance_formats`; without one named, bvh, glb and smpl are written, beside the dance or into DIR, with
the ground at height 0. A dance that cannot be read does not stop the others; the exit status is then 2.
docs/BLENDER.md says how to open the files.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from utils.body_model import BodyModel, add_shape_options, load_body_model
from utils.dance_formats import WRITERS, WriterInput, WriterOptions
from utils.export import Fit, level_floor, worst_stretch
from utils.export.bvh import PER_METRE
from utils.export.names import TABLES
from utils.floor import on_ground
from utils.metrics.reading import NotADance, read_recording
from utils.recording import UP_AXES
from utils.skeleton import SMPL_24
from utils.terminal import tolerant_output

DEFAULT = ("bvh", "glb", "smpl")
_OTHER_BODY = 0.005  # metres of mean error beyond which a dancer has other proportions than SMPL


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m utils.export",
        description="Writes dances as BVH, glTF, SMPL parameters and more.",
        allow_abbrev=False,
    )
    p.add_argument("dances", type=Path, nargs="+", metavar="DANCE", help=".npz .npy .pkl.npy .pkl")
    for name, writer in WRITERS.items():
        p.add_argument(
            f"--{name}", action="store_true", help=f"write DANCE{writer.suffix}: {writer.contains}"
        )
    p.add_argument(
        "--body-model", type=Path, metavar="DIR|FILE",
        help="SMPL's licensed model: .glb holds and .mp4 shows its mesh",
    )  # fmt: skip
    add_shape_options(p)
    p.add_argument("--song", type=Path, help="sound file for .mp4 and .html (they are silent)")
    p.add_argument("--level", action="store_true", help="take the slow drift of height out")
    p.add_argument("--footlock", action="store_true", help="keep planted feet in place, and above the floor")
    p.add_argument("--raw-heights", action="store_true", help="keep the heights of the file: no ground at 0")
    p.add_argument("--names", choices=tuple(TABLES), default="smpl", help="of joints in .bvh and .glb (smpl)")
    p.add_argument(
        "--in-place", action="store_true", help="leave the path on the ground out of .bvh and .glb"
    )
    p.add_argument("--unit", choices=tuple(PER_METRE), default="cm", help="of lengths in .bvh (cm)")
    p.add_argument("--every", type=int, default=1, help="keep each n-th frame in .bvh and .glb (1)")
    p.add_argument("--fps", type=float, default=SMPL_24.fps, help="of files that do not say theirs (60)")
    p.add_argument("--up", choices=UP_AXES, default="y", help="the axis that points up in the files (y)")
    p.add_argument("--out", type=Path, help="folder for the files (beside each dance)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 if any dance was not written."""
    tolerant_output()
    options = parser().parse_args(arguments)
    status, body_model = 0, None
    try:
        if options.body_model is not None:
            body_model = load_body_model(options.body_model, options.gender, tuple(options.betas))
        elif options.betas or options.gender != "male":
            raise ValueError("--gender and --betas describe the body of --body-model; name SMPL's file there")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in options.dances:
        try:
            export(path, options, body_model)
        except (ValueError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def export(path: Path, options: argparse.Namespace, body_model: BodyModel | None = None) -> None:
    """Write one dance, and print how well bodies were fitted to it.

    Args:
        path: of the dance.
        options: the command line.
        body_model: SMPL's body, if its mesh is wanted.

    Raises:
        FileNotFoundError: if there is no such file, or no such song.
        ValueError: naming the file, if it is not a dance, or would be overwritten.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a dance (.npz, .npy or .pkl) is expected")
    if options.song is not None and not options.song.is_file():
        raise FileNotFoundError(f"there is no song {options.song}; check the path and the spelling")
    try:
        dance, findings, lost = read_recording(path, options.fps, options.up, bridge=True)
    except NotADance as reason:
        raise ValueError(f"{path} is no dance: {reason.why}") from None
    if findings.unit:
        raise ValueError(f"{path}: {findings.unit}")
    if lost:
        frames = "; ".join(map(str, lost))
        print(f"{dance.name}: lost, held between their neighbours: {frames}")
    for remark in findings.remarks:
        print(f"{dance.name}: {remark}")
    folder = options.out or path.parent
    formats = [name for name in WRITERS if getattr(options, name)] or DEFAULT
    paths = {name: folder / f"{dance.name}{WRITERS[name].suffix}" for name in formats}
    if path.resolve() in (file.resolve() for file in paths.values()):
        raise ValueError(f"{path} would be overwritten; name another folder with --out")
    if options.level:
        levelled, drift = level_floor(dance.joints, dance.fps)
        dance = replace(dance, joints=levelled)
        print(f"{dance.name}: the floor drifted by {1000 * drift:.0f} mm; that is removed")
    if not options.raw_heights:
        standing, ground = on_ground(dance.joints, dance.fps)
        dance = replace(dance, joints=standing)
        print(f"{dance.name}: the ground was at {ground:.3f} m; it is at 0 now")
    stretch = worst_stretch(dance.joints)
    print(
        f"{dance.name}: {stretch.bone} stretches most, {1000 * stretch.shortest:.0f} to "
        f"{1000 * stretch.longest:.0f} mm; in the files bones are rigid"
    )
    how = WriterOptions(
        footlock=options.footlock, names=options.names, unit=options.unit, every=options.every,
        in_place=options.in_place,
    )  # fmt: skip
    given = WriterInput(dance, options.song, how, body_model=body_model)
    fitted = any(given.fitted_for(name) == "body" for name in formats)
    given = replace(given, options=replace(how, draw_fitted=fitted or options.footlock))
    told: set[str] = set()
    for name, file in paths.items():
        needs = given.fitted_for(name)
        if needs not in told:
            told.add(needs)
            _print_fit(needs, given)
        print(f"  {file}")
        WRITERS[name].write(file, given)


def _print_fit(needs: str, given: WriterInput) -> None:
    """Print how well the body that a writer needs was fitted."""
    if needs == "body":
        _print_errors(given.dance.name, given.own_fit)
        if locked := given.foot_lock:
            print(
                f"  feet planted in {100 * locked.planted:.0f} % of frames: skating "
                f"{1000 * locked.skate_before:.0f} -> {1000 * locked.skate_after:.0f} mm/s, "
                f"below the floor {1000 * locked.sunk_before:.1f} -> {1000 * locked.sunk_after:.1f} mm"
            )
    elif needs == "smpl":
        fit, size = given.smpl_fit
        _print_errors(f"{given.dance.name} (SMPL body x {size:.3f})", fit)
        if fit.error > _OTHER_BODY:
            print(
                "  SMPL parameters hold SMPL's own bones and angles, which are not this dancer's: "
                ".bvh and .glb are closer"
            )


def _print_errors(name: str, fit: Fit) -> None:
    print(
        f"{name}: {len(fit.root)} frames, joints within {1000 * fit.error:.1f} mm "
        f"(worst {1000 * fit.worst:.0f} mm), "
        f"fastest turn {fit.turn.degrees:.0f} degrees per frame ({fit.turn.joint}, frame {fit.turn.frame}), "
        f"bone drift {100 * fit.drift_before:.2f} % -> {100 * fit.drift_after:.2f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
