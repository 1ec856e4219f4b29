"""Dances made earlier, in forms that other programs open.

    python -m utils.export DANCE.npz [...] [--bvh] [--glb] [--smpl] [--level] [--footlock] [--out DIR]

A dance is any file that `python -m utils.metrics` reads; without a form named, all three are written,
beside the dance or into DIR, with the ground at height 0. A dance that cannot be read does not lose the
others; the exit status is then 2. docs/BLENDER.md says how to open the files.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from utils.export import (
    Fit,
    fit_body,
    fit_smpl,
    level_floor,
    lock_feet,
    worst_stretch,
    write_bvh,
    write_glb,
    write_smpl,
)
from utils.export.bvh import PER_METRE
from utils.export.names import TABLES
from utils.floor import floor_height, on_ground
from utils.metrics.reading import NotADance, read_dance
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints
from utils.terminal import tolerant_output


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m utils.export", description="Writes dances as BVH, glTF and SMPL.", allow_abbrev=False
    )
    p.add_argument("dances", type=Path, nargs="+", metavar="DANCE", help=".npz .npy .pkl.npy .pkl")
    p.add_argument("--bvh", action="store_true", help="write DANCE.bvh")
    p.add_argument("--glb", action="store_true", help="write DANCE.glb")
    p.add_argument("--smpl", action="store_true", help="write DANCE_smpl.npz")
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
    p.add_argument("--up", choices=("y", "z"), default="y", help="the axis that points up in the files (y)")
    p.add_argument("--out", type=Path, help="folder for the files (beside each dance)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 if any dance was not written."""
    tolerant_output()
    options = parser().parse_args(arguments)
    status = 0
    for path in options.dances:
        try:
            export(path, options)
        except (ValueError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


def export(path: Path, options: argparse.Namespace) -> None:
    """Fits one dance, writes it, and prints how well it was fitted.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is not a dance.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a dance (.npz, .npy or .pkl) is expected")
    try:
        dance = read_dance(path, options.fps, options.up)
    except NotADance as reason:
        raise ValueError(f"{path} is no dance: {reason.why}") from None
    folder = options.out or path.parent
    if options.level:
        levelled, wandered = level_floor(dance.joints, dance.fps)
        dance = replace(dance, joints=levelled)
        print(f"{dance.name}: the floor wandered by {1000 * wandered:.0f} mm; that is taken out")
    if not options.raw_heights:
        standing, ground = on_ground(dance.joints, dance.fps)
        dance = replace(dance, joints=standing)
        print(f"{dance.name}: the ground was at {ground:.3f} m; it is at 0 now")
    stretch = worst_stretch(dance.joints)
    print(
        f"{dance.name}: {stretch.bone} stretches most, {1000 * stretch.shortest:.0f} to "
        f"{1000 * stretch.longest:.0f} mm; in the files bones are rigid"
    )
    every = not (options.bvh or options.glb or options.smpl)
    rest, floor = rest_joints(), floor_height(dance.joints, dance.fps)
    if options.bvh or options.glb or every:
        fit = fit_body(dance.joints, rest)
        _tell(dance.name, fit)
        if options.footlock:
            locked = lock_feet(fit, dance.joints, floor, dance.fps)
            fit = locked.fit
            print(
                f"  feet planted in {100 * locked.planted:.0f} % of frames: skating "
                f"{1000 * locked.skate_before:.0f} -> {1000 * locked.skate_after:.0f} mm/s, "
                f"below the floor {1000 * locked.sunk_before:.1f} -> {1000 * locked.sunk_after:.1f} mm"
            )
        common = {"every": options.every, "names": options.names, "in_place": options.in_place}
        if options.bvh or every:
            path = folder / f"{dance.name}.bvh"
            write_bvh(_said(path), fit, dance.fps, unit=options.unit, **common)
        if options.glb or every:
            path = folder / f"{dance.name}.glb"
            write_glb(_said(path), fit, dance.fps, name=dance.name, **common)
    if options.smpl or every:
        fit, size = fit_smpl(dance.joints, rest)
        _tell(f"{dance.name} (SMPL body x {size:.3f})", fit)
        if options.footlock:
            fit = lock_feet(fit, dance.joints, floor, dance.fps).fit
        write_smpl(_said(folder / f"{dance.name}_smpl.npz"), fit, size, rest, dance.fps)


def _tell(name: str, fit: Fit) -> None:
    print(
        f"{name}: {len(fit.root)} frames, joints within {1000 * fit.error:.1f} mm "
        f"(worst {1000 * fit.worst:.0f} mm), "
        f"fastest turn {fit.turn.degrees:.0f} degrees per frame ({fit.turn.joint}, frame {fit.turn.frame}), "
        f"bone drift {100 * fit.drift_before:.2f} % -> {100 * fit.drift_after:.2f} %"
    )


def _said(path: Path) -> Path:
    print(f"  {path}")
    return path


if __name__ == "__main__":
    sys.exit(main())
