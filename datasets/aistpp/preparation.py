"""Runs the tasks of a preparation: in parallel, resumable, idempotent; then writes the manifest.

While it runs, <out>/progress.jsonl gets a line per finished task. The manifest is written last and the
journal goes. A second run (after a kill, or with changed inputs) trusts a finished task only if its stamp
is the same and its files are whole, so it does what is missing or changed and ends with the same bytes.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.aistpp.running import JOURNAL, Runner
from datasets.aistpp.tasks import MotionTask, SongTask
from datasets.sequences import MANIFEST, read_manifest, write_bytes, write_manifest
from utils.skeleton import SMPL_24, Skeleton

SHOWN = 5
LENGTHS_NOTE = "nothing is cut in the files; whoever needs both uses the shorter one"


@dataclass
class Plan:
    """What is to be prepared, as found in a source. Left-out reasons are (kind, detail).

    Attributes:
        name: of the data set.
        motions: one task per dance.
        songs: one task per song, by name; those no dance needs are not run.
        music: `version`, `fps` and `columns` of the features.
        lists: names in the split files, by `train`, `val`, `test`.
        ignored: names on the ignore list.
        left_out: what is left out before anything is read, by sequence.
        found: how many motion files there are.
        song_optional: keep dances whose song is missing or unreadable.
        songs_only: there are no dances; all songs are prepared, and `left_out` is by song.
        expected: how many there should be, for the report.
        notes: remarks for the report.
        skeleton: whose joints the dances are.
    """

    name: str
    motions: list[MotionTask]
    songs: dict[str, SongTask]
    music: dict[str, Any]
    lists: dict[str, list[str]]
    ignored: list[str] = field(default_factory=list)
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    found: int = 0
    song_optional: bool = False
    songs_only: bool = False
    expected: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    skeleton: Skeleton = SMPL_24


class Prepared(NamedTuple):
    """The manifest as written, and how many tasks were done now and how many had been done before."""

    manifest: dict[str, Any]
    fresh: int
    kept: int


def prepare(
    plan: Plan, out: Path, libraries: dict[str, str], workers: int = 1, progress: bool = True
) -> Prepared:
    """Carries out a plan.

    Args:
        plan: what to do.
        out: folder to fill; whatever is whole in it and still fits the plan is kept.
        libraries: versions, for the manifest.
        workers: processes; 1 runs here.
        progress: whether to draw bars.

    Raises:
        ValueError: if nothing at all could be prepared; an earlier manifest made with the same options
            stays.
        OSError: if `out` cannot be written; what is already prepared stays.
        RuntimeError: if a worker process was killed.
    """
    known = _known(out)
    _sweep(out)
    lines = [
        json.dumps([kind, name, facts]) for kind, entries in known.items() for name, facts in entries.items()
    ]
    write_bytes(out / JOURNAL, "".join(f"{line}\n" for line in lines).encode())
    if _made_otherwise(out, plan):
        (out / MANIFEST).unlink()  # files it describes are about to be replaced
    left_out = dict(plan.left_out)
    with (out / JOURNAL).open("a", encoding="utf-8") as journal:
        run = Runner(out, known, journal, workers, progress)
        sequences = run.all(plan.motions, "dances", left_out)
        songs, bad_songs = _songs(plan, sequences, run)
    for name, facts in list(sequences.items()):
        song = facts["song"]
        if not plan.song_optional and not songs.get(song, {}).get("features"):
            left_out[name] = bad_songs.get(song, ("missing song", f"{song} was not found"))
            del sequences[name]
    if plan.songs_only:
        left_out |= bad_songs
    if not (songs if plan.songs_only else sequences):
        what = "songs" if plan.songs_only else "sequences"
        some = "; ".join(f"{name}: {why[1]}" for name, why in list(left_out.items())[:3])
        raise ValueError(f"nothing could be prepared: all {len(left_out)} {what} are left out ({some})")
    if plan.song_optional:
        plan.notes += [f"song {song}: {kind}: {detail}" for song, (kind, detail) in sorted(bad_songs.items())]
    manifest = _manifest(plan, sequences, songs, left_out, libraries)
    write_manifest(out, manifest)
    (out / JOURNAL).unlink()
    return Prepared(manifest, run.fresh, run.kept)


def _songs(
    plan: Plan, sequences: dict[str, dict], run: Runner
) -> tuple[dict[str, dict], dict[str, tuple[str, str]]]:
    """Runs the tasks of the songs that are needed, with the beats that came with the dances, if any."""
    beats: dict[str, np.ndarray] = {}
    for facts in sequences.values():
        flags = _flags(facts.get("music_beats"))
        if len(flags) > len(beats.get(facts["song"], ())):
            beats[facts["song"]] = flags
    danced = set(plan.songs) if plan.songs_only else {facts["song"] for facts in sequences.values()}
    used = sorted(danced & set(plan.songs))
    tasks = [plan.songs[song] for song in used]
    tasks = [task._replace(beats=beats.get(task.name, task.beats)) for task in tasks]
    bad: dict[str, tuple[str, str]] = {}
    return run.all(tasks, "songs", bad), bad


def _flags(known: dict[str, Any] | None) -> np.ndarray:
    flags = np.zeros(known["frames"] if known else 0, bool)
    flags[known["beats"] if known else []] = True
    return flags


def _known(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """What earlier runs finished: from the manifest, then from the journal of a run that did not end."""
    known: dict[str, dict[str, dict[str, Any]]] = {"sequences": {}, "songs": {}}
    if (out / MANIFEST).is_file():
        try:
            manifest = read_manifest(out)
        except (
            ValueError
        ):  # damaged or of another version: everything is looked at anew, and it is written anew
            (out / MANIFEST).replace(out / f"{MANIFEST}.damaged")
        else:
            known = {kind: dict(manifest[kind]) for kind in known}
    if (out / JOURNAL).is_file():
        for line in (out / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                kind, name, facts = json.loads(line)
                known[kind][name] = dict(facts)
            except (ValueError, KeyError, TypeError):  # the line that a kill cut short
                continue
    return known


def _sweep(out: Path) -> None:
    """Removes half files that a killed run left beside their places."""
    for folder in (out, out / "motion", out / "music", out / "audio"):
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            path.unlink(missing_ok=True)


def _made_with(plan: Plan) -> dict[str, list[str]]:
    """All options that decide what is in the files."""
    songs = plan.songs.values()
    return {
        "motion": sorted({task.options for task in plan.motions}),
        "music": sorted({task.options for task in songs}),
    }


def _made_otherwise(out: Path, plan: Plan) -> bool:
    return (out / MANIFEST).is_file() and read_manifest(out).get("made_with") != _made_with(plan)


def _manifest(
    plan: Plan, sequences: dict, songs: dict, left_out: dict[str, tuple[str, str]], libraries: dict[str, str]
) -> dict[str, Any]:
    wanted = {"train": plan.lists.get("train", [])}
    wanted["test"] = [name for split in ("val", "test") for name in plan.lists.get(split, [])]
    wanted["train"] = [name for name in wanted["train"] if name not in set(wanted["test"])]
    splits = {split: sorted({n for n in names if n in sequences}) for split, names in wanted.items()}
    return {
        "name": plan.name,
        "skeleton": plan.skeleton.name,
        "fps": plan.skeleton.fps,
        "music": plan.music,
        "made_with": _made_with(plan),
        "libraries": libraries,
        "report": build_report(plan, sequences, songs, left_out, splits),
        "splits": {**splits, "lists": plan.lists},
        "songs": songs,
        "sequences": sequences,
        "left_out": {name: ": ".join(why) for name, why in sorted(left_out.items())},
    }


def build_report(
    plan: Plan,
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
