"""What a preparation tells its user, on the screen and in the manifest. docs/DATA.md explains every line."""

from collections import Counter
from importlib import metadata
from typing import TYPE_CHECKING, Any

from utils.skeleton import SMPL_24

if TYPE_CHECKING:
    from datasets.preparation import Plan

SHOWN = 5
LENGTHS_NOTE = "nothing is cut in the files; whoever needs both uses the shorter one"


def build_report(
    plan: "Plan",
    sequences: dict[str, dict[str, Any]],
    songs: dict[str, dict[str, Any]],
    left_out: dict[str, tuple[str, str]],
    splits: dict[str, list[str]],
) -> dict[str, Any]:
    """The counts: expected, found, prepared, left out by kind, and how dances and songs differ in length."""
    excess = {}  # frames by which a dance outlasts its song
    for name, facts in sequences.items():
        beats = songs.get(facts["song"], {}).get("beats", 0)
        if beats:
            excess[name] = facts["frames"] - beats
    longer = {name: frames for name, frames in sorted(excess.items()) if frames > 0}
    return {
        "songs_only": plan.songs_only,
        "expected": plan.expected,
        "found": {
            "motions": plan.found,
            "songs": sum(t.file is not None for t in plan.songs.values()),
        },
        "prepared": {
            "sequences": len(sequences),
            **{split: len(names) for split, names in splits.items()},
            "songs": len(songs),
            "without_song": sum(not songs.get(f["song"], {}).get("features") for f in sequences.values()),
        },
        "left_out": dict(sorted(Counter(kind for kind, _ in left_out.values()).items())),
        "lengths": {
            "dance_longer": longer,
            "song_longer": sum(frames < 0 for frames in excess.values()),
            "equal": sum(frames == 0 for frames in excess.values()),
            "done": LENGTHS_NOTE,
        },
        "notes": plan.notes,
    }


def library_versions() -> dict[str, str]:
    """Versions of the libraries that the numbers depend on."""
    return {name: metadata.version(name) for name in ("librosa", "numpy", "scipy", "numba", "soxr", "av")}


def report_lines(manifest: dict[str, Any]) -> list[str]:
    """The report as lines of text."""
    report = manifest["report"]
    expected, found, prepared = report["expected"], report["found"], report["prepared"]
    lines = [f"data set {manifest['name']}, music features {manifest['music']['version']!r}"]
    if expected:
        lines.append(
            "expected  "
            f"{expected['declared']} sequences declared, {expected['released']} released, "
            f"{expected['after_ignore_list']} after the ignore list; "
            f"train {expected['train']}, test {expected['test']}"
        )
    if report["songs_only"]:
        minutes = sum(song["beats"] for song in manifest["songs"].values()) / SMPL_24.fps / 60
        lines.append(f"found     {found['songs']} songs")
        lines.append(f"prepared  {prepared['songs']} songs, {minutes:.1f} minutes")
    else:
        fewer = expected["released"] - found["motions"] if expected else 0
        lines.append(
            f"found     {found['motions']} motion files{f' ({fewer} fewer than released)' * (fewer > 0)}, "
            f"{found['songs']} songs"
        )
        lines.append(
            f"prepared  {prepared['sequences']} sequences (train {prepared['train']}, "
            f"test {prepared['test']}), {prepared['songs']} songs"
            + (f"; {prepared['without_song']} sequences have no music" if prepared["without_song"] else "")
        )
    what = "songs" if report["songs_only"] else "sequences"
    lines.append(f"left out  {sum(report['left_out'].values())} {what}")
    reasons = manifest["left_out"]
    for kind, count in report["left_out"].items():
        names = [name for name, why in reasons.items() if why.split(": ")[0] == kind]
        lines.append(f"          {count} {kind}: {_some(names)}")
        if kind not in ("ignored", "missing motion", "missing song"):
            lines += [f"            {name}: {reasons[name].partition(': ')[2]}" for name in names[:SHOWN]]
    if not report["songs_only"]:
        lengths = report["lengths"]
        longer = [f"{name} by {n / SMPL_24.fps:.1f} s" for name, n in lengths["dance_longer"].items()]
        lines.append(
            f"lengths   {lengths['equal']} dances as long as their song, {lengths['song_longer']} shorter, "
            f"{len(longer)} longer{': ' + _some(longer) if longer else ''} ({lengths['done']})"
        )
    lines += [f"note      {note}" for note in report["notes"]]
    versions = [f"{name} {version}" for name, version in manifest["libraries"].items()]
    lines.append(f"made with {', '.join(versions)}")
    return lines


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
