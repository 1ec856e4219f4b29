"""Dances made earlier, in forms that other programs open.

    python -m utils.export DANCE.npz [...] [--bvh] [--glb] [--smpl] [--level] [--footlock] [--out DIR]

A dance is any file that `python -m utils.metrics` reads; without a form named, all three are written,
beside the dance or into DIR. A dance that cannot be read does not lose the others; the exit status is then 2.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from utils.export import Fit, fit_body, fit_smpl, level_floor, lock_feet, write_bvh, write_glb, write_smpl
from utils.export.bvh import PER_METRE
from utils.metrics.physical import floor_height
from utils.metrics.reading import NotADance, read_dance
from utils.skeleton import SMPL_24
from utils.smpl import rest_joints


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
    p.add_argument("--unit", choices=tuple(PER_METRE), default="cm", help="of lengths in .bvh (cm)")
    p.add_argument("--every", type=int, default=1, help="keep each n-th frame in .glb (1)")
    p.add_argument("--fps", type=float, default=SMPL_24.fps, help="of files that do not say theirs (60)")
    p.add_argument("--up", choices=("y", "z"), default="y", help="the axis that points up in the files (y)")
    p.add_argument("--out", type=Path, help="folder for the files (beside each dance)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 if any dance was not written."""
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
        raise ValueError(f"{path} is no dance: {reason}") from None
    folder = options.out or path.parent
    if options.level:
        levelled, wandered = level_floor(dance.joints, dance.fps)
        dance = replace(dance, joints=levelled)
        print(f"{dance.name}: the floor wandered by {1000 * wandered:.0f} mm; that is taken out")
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
        if options.bvh or every:
            write_bvh(_said(folder / f"{dance.name}.bvh"), fit, dance.fps, unit=options.unit)
        if options.glb or every:
            write_glb(
                _said(folder / f"{dance.name}.glb"), fit, dance.fps, every=options.every, name=dance.name
            )
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
        f"bone drift {100 * fit.drift_before:.2f} % -> {100 * fit.drift_after:.2f} %"
    )


def _said(path: Path) -> Path:
    print(f"  {path}")
    return path


if __name__ == "__main__":
    sys.exit(main())
