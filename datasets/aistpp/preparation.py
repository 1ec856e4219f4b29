"""Runs the tasks of a preparation in parallel, and writes the manifest.

A second run, after a kill or with changed inputs, keeps the files of a task if its stamp is the same and they
are complete, and makes all others, so it ends with the same bytes. Facts and stamps are in the manifest,
which is written last, and until then in <out>/progress.jsonl, a line per finished task.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from tqdm import tqdm

from datasets.aistpp.tasks import MotionTask, Rejected, SongTask
from datasets.sequences import MANIFEST, cannot_write, read_manifest, write_array, write_bytes, write_manifest
from utils.files import DAMAGED_ARRAY
from utils.folder_lock import folder_lock
from utils.plausibility import Stretch, listed
from utils.processors import in_processes
from utils.skeleton import SMPL_24, Skeleton

log = logging.getLogger(__name__)
JOURNAL = "progress.jsonl"
WORKER_MEMORY = 2**30  # bytes: libraries and a song of some minutes take half of it, an hour of sound more
LENGTHS_NOTE = "nothing is cut in the files; whoever needs both uses the shorter one"
_SHOWN = 5
_NOTES = 20
Task = MotionTask | SongTask
Facts = dict[str, dict[str, Any]]  # facts for the manifest, by the name of a dance or song
LeftOut = dict[str, tuple[str, str]]  # (kind, detail), by the name of a dance or song


@dataclass
class Plan:
    """Everything to prepare, as found in a source.

    Attributes:
        name: of the data set.
        motions: one task per dance.
        songs: one task per song, by name; songs that no dance needs are not read.
        music: `version`, `fps` and `columns` of the features.
        lists: names in the split files, by `train`, `val`, `test`.
        ignored: names on the ignore list.
        left_out: dances that are left out before anything is read, with the reason.
        found: number of motion files.
        song_optional: keep dances whose song is missing or unreadable.
        songs_only: there are no dances; all songs are prepared, and `left_out` is by song.
        expected: expected numbers, for the report.
        notes: remarks for the report.
        skeleton: of the dances.
    """

    name: str
    motions: list[MotionTask]
    songs: dict[str, SongTask]
    music: dict[str, Any]
    lists: dict[str, list[str]]
    ignored: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)
    found: int = 0
    song_optional: bool = False
    songs_only: bool = False
    expected: dict[str, int] | None = None
    notes: list[str] = field(default_factory=list)
    skeleton: Skeleton = SMPL_24


class Prepared(NamedTuple):
    """The manifest, and how many tasks were done now (`fresh`) and in earlier runs (`kept`)."""

    manifest: dict[str, Any]
    fresh: int
    kept: int


def prepare(
    plan: Plan, out: Path, libraries: dict[str, str], workers: int = 1, progress: bool = True
) -> Prepared:
    """Carries out a plan.

    Args:
        plan: the plan.
        out: folder of the prepared data; complete files in it that still fit the plan are kept.
        libraries: versions, for the manifest.
        workers: number of processes; 1 uses this one.
        progress: whether to draw progress bars.

    Raises:
        ValueError: if nothing at all could be prepared; an earlier manifest made with the same options
            stays. If another process prepares data there.
        OSError: if `out` cannot be written; what is already prepared stays.
        RuntimeError: if a worker process was killed.
    """
    with reserved(out):
        return _prepare(plan, out, libraries, workers, progress)


@contextmanager
def reserved(out: Path) -> Iterator[None]:
    """Reserve a folder of prepared data for this process.

    Raises:
        ValueError: if another process prepares data there.
        OSError: if it cannot be written.
    """
    cure = "Wait for it or stop it, or name another folder (--out DIR)"
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(out, "prepares data", cure))
        except OSError as error:
            raise cannot_write(out, error) from None
        yield


def _prepare(plan: Plan, out: Path, libraries: dict[str, str], workers: int, progress: bool) -> Prepared:
    known = _known(out)
    _sweep(out)
    lines = [json.dumps([kind, name, facts]) for kind in known for name, facts in known[kind].items()]
    write_bytes(out / JOURNAL, "".join(f"{line}\n" for line in lines).encode())
    if _has_other_options(out, plan):
        (out / MANIFEST).unlink()  # files it describes are about to be replaced
    left_out = dict(plan.left_out)
    with (out / JOURNAL).open("a", encoding="utf-8") as journal:
        run = _Run(out, known, journal, workers, progress)
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


class _Outcome(NamedTuple):
    """Outcome of a task: `facts` for the manifest, or why it is left out; `fresh` if files were written."""

    facts: dict[str, Any] | None
    left_out: tuple[str, str]
    fresh: bool


class _Run:
    """Runs tasks, and writes the facts of finished ones to the journal."""

    def __init__(
        self, out: Path, known: dict[str, Facts], journal: TextIO, workers: int, progress: bool
    ) -> None:
        self.out, self.known, self.journal = out, known, journal
        self.workers, self.progress = workers, progress
        self.fresh = self.kept = 0

    def all(self, tasks: Sequence[Task], what: str, left_out: LeftOut) -> Facts:
        """Facts of the tasks that succeed, by name; the others are added to `left_out`."""
        done: Facts = {}
        with tqdm(total=len(tasks), desc=what, disable=not self.progress) as bar:
            for alone in (False, True):
                some = [task for task in tasks if task.alone == alone]
                jobs = [(task, self.out, self.known[task.kind].get(task.name)) for task in some]
                workers = 1 if alone else min(self.workers, len(jobs))
                for (task, _, _), outcome in in_processes(_run_task, jobs, workers):
                    bar.update()
                    if outcome.facts is None:
                        left_out[task.name] = outcome.left_out
                        continue
                    done[task.name] = outcome.facts
                    self.fresh, self.kept = self.fresh + outcome.fresh, self.kept + (not outcome.fresh)
                    if outcome.fresh:
                        self.journal.write(json.dumps([task.kind, task.name, outcome.facts]) + "\n")
                        self.journal.flush()
        return dict(sorted(done.items()))


def _run_task(task: Task, out: Path, known: dict[str, Any] | None) -> _Outcome:
    try:
        stamp = task.stamp()
        if known and known.get("stamp") == stamp and _complete(task, out, known):
            return _Outcome(known, ("", ""), False)
        arrays, facts = task.make(out)
    except Rejected as error:
        return _Outcome(None, (error.kind, str(error)), False)
    except ValueError as error:
        return _Outcome(None, ("unreadable", " ".join(str(error).split())), False)
    except OSError:  # of a file that is written: a full disk ends the preparation
        raise
    except Exception as error:  # a file in an unforeseen form does not stop the others
        log.debug("%s", task.name, exc_info=True)
        where = task.file.path if task.file else task.name
        why = " ".join(f"{where}: {type(error).__name__}: {error}".split())
        return _Outcome(None, ("unreadable", why), False)
    for path, array in arrays.items():
        write_array(path, array)
    return _Outcome({**facts, "stamp": stamp}, ("", ""), True)


def _complete(task: Task, out: Path, known: dict[str, Any]) -> bool:
    """Whether the files of a task are there, as its facts describe them."""
    try:
        for path, (shape, dtype) in task.outputs(out, known).items():
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.shape != shape or array.dtype != dtype:
                return False
    except DAMAGED_ARRAY:
        return False
    audio = known.get("audio")
    return not audio or (out / audio).is_file()


def _songs(plan: Plan, sequences: Facts, run: _Run) -> tuple[Facts, LeftOut]:
    """Runs the tasks of the songs that are needed, with the beats that came with the dances, if any."""
    beats: dict[str, np.ndarray] = {}
    for facts in sequences.values():
        flags = _flags(facts.get("music_beats"))
        if len(flags) > len(beats.get(facts["song"], ())):
            beats[facts["song"]] = flags
    needed = set(plan.songs) if plan.songs_only else {facts["song"] for facts in sequences.values()}
    tasks = [plan.songs[song] for song in sorted(needed & set(plan.songs))]
    tasks = [task._replace(beats=beats.get(task.name, task.beats)) for task in tasks]
    bad: LeftOut = {}
    return run.all(tasks, "songs", bad), bad


def _flags(known: dict[str, Any] | None) -> np.ndarray:
    flags = np.zeros(known["frames"] if known else 0, bool)
    flags[known["beats"] if known else []] = True
    return flags


def _known(out: Path) -> dict[str, Facts]:
    """Facts of earlier runs: from the manifest, then from the journal of a run that did not end."""
    known: dict[str, Facts] = {"sequences": {}, "songs": {}}
    if (out / MANIFEST).is_file():
        try:
            manifest = read_manifest(out)
        except ValueError:  # damaged or of another version: everything is made again
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
    """Removes unfinished files that a killed run left."""
    for folder in (out, out / "motion", out / "music", out / "audio"):
        for path in folder.glob(".*.tmp") if folder.is_dir() else ():
            path.unlink(missing_ok=True)


def _made_with(plan: Plan) -> dict[str, list[str]]:
    """All options that determine the content of the files."""
    songs = plan.songs.values()
    return {
        "motion": sorted({task.options for task in plan.motions}),
        "music": sorted({task.options for task in songs}),
    }


def _has_other_options(out: Path, plan: Plan) -> bool:
    return (out / MANIFEST).is_file() and read_manifest(out).get("made_with") != _made_with(plan)


def _manifest(
    plan: Plan, sequences: Facts, songs: Facts, left_out: LeftOut, libraries: dict[str, str]
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
    sequences: Facts,
    songs: Facts,
    left_out: LeftOut,
    splits: dict[str, list[str]],
) -> dict[str, Any]:
    """Numbers expected, found, prepared and left out by kind, and differences in length of dance and song."""
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
        "motion": _motion(plan.skeleton, list(sequences.values())) if sequences else None,
        "notes": [*plan.notes, *motion_notes(sequences)],
    }


def _motion(skeleton: Skeleton, dances: list[dict[str, Any]]) -> dict[str, Any]:
    """Length, speed and uprightness of the dances, from which wrong rates, units and axes can be seen."""
    speeds = [facts["speed"] for facts in dances]
    shares = [(facts["upright"], facts["frames"]) for facts in dances if facts["upright"] is not None]
    total = sum(frames for _, frames in shares)
    return {
        "seconds": round(sum(facts["frames"] for facts in dances) / skeleton.fps, 2),
        "fps": skeleton.fps,
        "speed": {"median": round(float(np.median(speeds)), 3), "least": min(speeds), "most": max(speeds)},
        "upright": round(sum(s * n for s, n in shares) / total, 3) if total else None,
    }


def motion_notes(sequences: Facts) -> list[str]:
    """Remarks on dances: those that were resampled, those with motion that is no dance, and the rest."""
    notes = []
    rates: dict[float, list[str]] = {}
    for name, facts in sequences.items():
        if "resampled" in facts:
            rates.setdefault(facts["resampled"]["fps"], []).append(name)
    for rate, names in sorted(rates.items()):
        jitter = np.median([sequences[name]["resampled"]["jitter"] for name in names], axis=0)
        notes.append(
            f"{len(names)} dances at {rate:g} fps were resampled by cubic splines, jitter {jitter[0]:.0f} -> "
            f"{jitter[1]:.0f} m/s³: {some_of(names)}"
        )
    broken = {name: facts["implausible"] for name, facts in sequences.items() if facts["implausible"]}
    if broken:
        notes.append(
            f"{len(broken)} dances have motion that no body makes, or T-poses; the key "
            "data.clips.implausible=leave_out keeps it out of training, the manifest names all of it"
        )
    told = [f"{name}: {listed([Stretch(*some) for some in stretches])}" for name, stretches in broken.items()]
    told += [f"{name}: {text}" for name, facts in sequences.items() for text in facts["remarks"]]
    return notes + told[:_NOTES] + ([f"and {len(told) - _NOTES} more"] if len(told) > _NOTES else [])


def library_versions() -> dict[str, str]:
    """Versions of the libraries that affect the numbers."""
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
        lines.append(f"          {count} {kind}: {some_of(names)}")
        if kind not in ("ignored", "missing motion", "missing song"):
            lines += [f"            {name}: {reasons[name].partition(': ')[2]}" for name in names[:_SHOWN]]
    if motion := report["motion"]:
        speed = motion["speed"]
        upright = (
            ""
            if motion["upright"] is None
            else (f"; the head is above the toes along y in {100 * motion['upright']:.0f} % of frames")
        )
        lines.append(
            f"motion    {motion['seconds'] / 60:.1f} minutes at {motion['fps']} fps; joints move at "
            f"{speed['median']:.2f} m/s ({speed['least']:.2f} to {speed['most']:.2f} by dance){upright}"
        )
    if not report["songs_only"]:
        lengths = report["lengths"]
        longer = [f"{name} by {n / SMPL_24.fps:.1f} s" for name, n in lengths["dance_longer"].items()]
        lines.append(
            f"lengths   {lengths['equal']} dances as long as their song, {lengths['song_longer']} shorter, "
            f"{len(longer)} longer{': ' + some_of(longer) if longer else ''} ({lengths['done']})"
        )
    lines += [f"note      {note}" for note in report["notes"]]
    versions = [f"{name} {version}" for name, version in manifest["libraries"].items()]
    lines.append(f"made with {', '.join(versions)}")
    return lines


def some_of(items: list[str]) -> str:
    """The first five items, and the number of the others."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
