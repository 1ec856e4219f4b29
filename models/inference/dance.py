"""--dance: dances to any songs, generated in batches of a few songs, each with its files and pages.

The songs of a batch are analysed, their dances generated together and written, before the next batch begins,
so that what is finished stays if the run is stopped. No dance depends on others.

Exit codes: 0 if every song has its dances and every file is written; 1 if some is not; 2 if none is, or the
config or the weights cannot be used.
"""

import json
import logging
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datasets.clips import with_context
from models.acceleration import AcceleratedGPT
from models.generation import FREE, GenerationConfig, Prompt, accelerated, cut, generate, overlay
from models.inference.config import DanceConfig
from models.inference.outputs import write_dance
from models.inference.prompts import Networks, load_networks, locked_codes, opening_codes
from models.inference.songs import (
    FileNames,
    Found,
    GivenRhythm,
    Song,
    analyse_each,
    find_songs,
    given_rhythm,
    named,
    one_line,
)
from models.stages.base import GPTRunConfig, RunConfig
from models.vqvae import ChoreographicMemory, Codes
from utils.body_model import BodyModel
from utils.config import to_plain
from utils.dance import Dance, Provenance
from utils.dance_formats import WRITERS, Failures, attempt
from utils.export import level_floor
from utils.metrics.beats import mean_speed
from utils.metrics.physical import STILL_SPEED, freezing
from utils.render.index import IndexEntry, write_index

log = logging.getLogger(__name__)
_DANCES_PER_BATCH = 8  # larger batches are hardly faster
_BATCH_STEPS = 400_000  # music steps generated together, padding included: 0.7 GB of features
_PACKAGES = ("torch", "numpy", "scipy", "librosa", "av")
_STILL_SHARE = 0.4  # of the time, from which a dance is reported to stand still mostly; real dances: 0
_STILL_SPEED = 0.12  # m/s, mean over joints and time, likewise; half of that of the slowest real dances


class Request(NamedTuple):
    """A dance to be generated.

    Attributes:
        name: of its files, without suffix.
        title: name of the song and number of the variant, as pages, pictures and the video show it.
        song: the analysed song.
        variant: 1, 2, ...
        key: decides its draws, together with the seed.
        first_step: music step with which it begins to move.
    """

    name: str
    title: str
    song: Song
    variant: int
    key: str
    first_step: int


def dance(config: RunConfig, songs: Sequence[str], device: torch.device, out: Path | None = None) -> int:
    """Generate dances to songs and write their files.

    Args:
        config: of a stage with a motion GPT.
        songs: sound files, and folders of them.
        device: where codes are generated.
        out: folder of all files; <run folder>/dance if None.

    Returns:
        The exit code, 0 or 1, see above.

    Raises:
        FileNotFoundError: if a checkpoint or a file that the config names is missing.
        ValueError: if the config or a checkpoint cannot be used, or no song is left.
    """
    if not isinstance(config, GPTRunConfig):
        raise ValueError(
            f"stage {config.stage} has no motion GPT to generate dances with; use "
            "configs/actor_critic.yaml or configs/cc_motion_gpt.yaml"
        )
    folder = out or config.folder / "dance"
    generation = config.dance.drawing(config.generation)
    _check(config.dance, generation.temperature, songs, folder)
    rhythm = given_rhythm(config.dance)
    progress = Progress()
    log.info("loading the weights that %s names", config.name)
    with progress.of("weights"):
        networks = load_networks(config, device)
    facts = networks.facts
    log.info(
        "%s, epoch %s, of %s: %.1f s", facts["stage"], facts["epoch"], facts["checkpoint"], progress.total
    )
    body_model = config.dance.body.load(networks.memory.skeleton)
    opening, locked = opening_codes(config, networks), locked_codes(config.dance, networks)
    found = find_songs([Path(song) for song in songs])
    for path, why in found.skipped.items():
        log.info("skipped: %s: %s", one_line(path), why)
    for path, why in found.failed.items():
        log.warning("left out: %s", named(path, why))
    if rhythm.beat_times is not None and len(found.songs) > 1:
        raise ValueError(
            f"dance.beats {config.dance.beats} holds the beats of one song, but there are "
            f"{len(found.songs)} songs; give --dance one of them at a time"
        )
    if rhythm.source and networks.features == "compat":
        log.warning(
            "%s does not change the codes: this GPT was trained on `compat` features, which hold no beats; "
            "the beats of the pages, the .npz and dance.start change",
            rhythm.source,
        )
    log.info("%s", about_drawing(generation))
    run = _Run(config, device, networks, (opening, locked), rhythm, folder, found, progress, body_model)
    with progress.bars(len(found.songs) * config.dance.variants):
        run.all_songs()
    if not run.entries:
        raise ValueError(f"there is no dance to any of the songs ({len(run.failed)} failed, see above)")
    run.write_index()
    for line in progress.summary():
        log.info("%s", line)
    say(f"songs: {run.analysed}, dances: {len(run.entries)}; open {folder / 'index.html'}")
    for what, items in (("left out", run.failed), ("could not be made", run.broken)):
        if items:
            say(f"{len(items)} {what}:")
            say([f"  {named(key, why)}" for key, why in items.items()])
    return 1 if run.failed or run.broken else 0


def clock(seconds: float) -> str:
    """Format seconds as 3:05, or 1:02:03 from an hour on."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Progress and timing of --dance.

    Lines are logged; bars appear on a terminal only, so that log files do not fill with them.

    Attributes:
        seconds: of each part of the work, over all dances.
        dances: (title, facts about it, seconds) of each dance that is written.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.dances: list[tuple[str, str, float]] = []
        self._title = ""  # of the dance that is written now
        self._bar: Any = None

    @property
    def total(self) -> float:
        """Seconds of all parts of the work so far."""
        return sum(self.seconds.values())

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Time what is within as that part; while a dance is written, also log it."""
        if self._title:
            self.show(f"{self._title}: {part}")
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds
        if self._title:
            log.info("  %s: %s, %.1f s", self._title, part, seconds)

    @contextmanager
    def bars(self, total: int) -> Iterator[None]:
        """Show a bar of `total` dances within, on a terminal; log lines go above it."""
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        with ExitStack() as stack:
            if sys.stderr.isatty():
                stack.enter_context(logging_redirect_tqdm())
                self._bar = stack.enter_context(tqdm(total=total, desc="dances", unit="dance", leave=False))
            try:
                yield
            finally:
                self._bar = None

    def show(self, what: str) -> None:
        """Show on the bar what is done now."""
        if self._bar is not None:
            self._bar.set_postfix_str(what)

    def skip(self, dances: int) -> None:
        """Take dances off the bar that will not be made."""
        if self._bar is not None:
            self._bar.total -= dances
            self._bar.refresh()

    @contextmanager
    def writing(self, number: int, total: int, title: str, about: str) -> Iterator[None]:
        """Name the dance whose files are written within, and time it."""
        log.info("dance %d of %d: %s (%s)", number, total, title, about)
        start = time.perf_counter()
        self._title = title
        try:
            yield
        finally:
            self._title = ""
            self.dances.append((title, about, time.perf_counter() - start))
            if self._bar is not None:
                self._bar.update()

    def summary(self) -> list[str]:
        """Lines with the time that the files of each dance and each part of the work took."""
        wide = max((len(title) for title, *_ in self.dances), default=0)
        lines = [f"  {title:<{min(wide, 50)}}  {about}: {took:.1f} s" for title, about, took in self.dances]
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.seconds.items())
        return [*lines, f"took {clock(time.perf_counter() - self.start)} ({parts})"]


def say(lines: str | Sequence[str]) -> None:
    """Print lines; what the terminal or file cannot encode is replaced."""
    for line in [lines] if isinstance(lines, str) else lines:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding))


class _Run:
    """One run of --dance: its songs in batches, what is written, and what fails.

    Attributes:
        entries: cards of the dances that are written.
        analysed: how many songs could be read.
        failed: file of a song, or folder -> why there is no dance to it.
        broken: file or picture that could not be made -> why.
    """

    def __init__(
        self,
        config: GPTRunConfig,
        device: torch.device,
        networks: Networks,
        given: tuple[Codes, Codes | None],
        rhythm: GivenRhythm,
        folder: Path,
        found: Found,
        progress: Progress,
        body_model: BodyModel | None,
    ) -> None:
        self.config, self.device, self.networks, self.given = config, device, networks, given
        self.rhythm, self.body_model = rhythm, body_model
        self.folder, self.songs, self.progress = folder, found.songs, progress
        self.names = FileNames(folder, [writer.suffix for writer in WRITERS.values()], found.songs)
        self.generation = config.dance.drawing(config.generation)
        self.gpt = accelerated(networks.gpt, self.generation)
        self.facts = _facts(config, networks)
        self.fps = float(networks.memory.skeleton.fps)
        self.entries: list[IndexEntry] = []
        self.analysed = 0
        self.failed = dict(found.failed)
        self.broken: Failures = {}

    def all_songs(self) -> None:
        """Process the songs in batches of at least one song, about `_DANCES_PER_BATCH` dances each."""
        size = max(1, _DANCES_PER_BATCH // self.config.dance.variants)
        for start in range(0, len(self.songs), size):
            requests = self._requests(start, self.songs[start : start + size])
            if requests:
                self._write(requests, self._generate(requests))

    def _requests(self, start: int, songs: Sequence[Path]) -> list[Request]:
        """Analyse the songs of a batch, the first of which is number `start`."""
        wanted = self.config.dance
        each, requests = analyse_each(songs, self.networks, self.rhythm), []
        for number, path in enumerate(songs, start + 1):
            self.progress.show(f"analysing {one_line(path.name)}")
            with self.progress.of("features"):
                song = next(each)
            if isinstance(song, str):
                self.failed[str(path)] = song
                self.progress.skip(wanted.variants)
                continue
            self.analysed += 1
            name, about = one_line(path.name), self._about(song)
            log.info("song %d of %d: %s: %s", number, len(self.songs), name, about)
            title = self.names.title_of(path)
            names = self.names.of(path, wanted.variants)
            requests += [
                _request(name, title, song, variant, wanted.start, self.networks.memory)
                for variant, name in enumerate(names, 1)
            ]
        return requests

    def _about(self, song: Song) -> str:
        """A song's length and tempo, and what gives the tempo if it is not found in the song."""
        source = f" by {song.beats_from}" if song.beats_from else ""
        return f"{clock(len(song.beats) / self.fps)}, {song.tempo}{source}"

    def _generate(self, requests: Sequence[Request]) -> list[Codes]:
        length = sum(len(request.song.beats) for request in requests) / self.fps
        number = f"{len(requests)} dance{'s' if len(requests) > 1 else ''}"
        log.info("generating %s, %s of music", number, clock(length))
        self.progress.show("generating")
        before = self.progress.total
        with self.progress.of("codes"):
            codes = generate_codes(self.gpt, requests, *self.given, self.config, self.device)
        log.info("generated in %.1f s", self.progress.total - before)
        return codes

    def _write(self, requests: Sequence[Request], generated: Sequence[Codes]) -> None:
        """Write all files of each dance, and the index of all dances so far."""
        wanted, progress = self.config.dance, self.progress
        total = (len(self.songs) - len(set(map(str, self.songs)) & set(self.failed))) * wanted.variants
        for request, codes in zip(requests, generated, strict=True):
            about = self._about(request.song)
            with progress.of("joints"):
                dance, drift = decode(request, codes, self.networks, wanted.level, self.facts)
            with progress.writing(len(self.entries) + 1, total, request.title, about):
                entry = write_dance(
                    self.folder,
                    dance,
                    request.title,
                    request.song.path,
                    wanted,
                    self.broken,
                    progress.of,
                    drift,
                    self.body_model,
                )
            notes = remarks(dance, self.generation)
            for note in notes:
                log.info("  %s %s", request.title, note)
            self.entries.append(replace(entry, notes=[f"{note[0].upper()}{note[1:]}" for note in notes]))
            with progress.of("index"):
                self.write_index()

    def write_index(self) -> None:
        """Write the index of all dances so far."""
        reasons = {
            one_line(path): {"": one_line(why.replace(path, Path(path).name))}
            for path, why in self.failed.items()
        }
        tables = {"Left out": reasons} if reasons else {}
        with attempt("index of the dances", self.broken):
            write_index(self.folder, self.entries, f"{self.config.name} dances", tables)


def about_drawing(generation: GenerationConfig) -> str:
    """Describe in a line how codes are chosen, and name the keys that decide it."""
    if generation.temperature == 0:
        how = "the most probable codes are taken"
    else:
        how = f"codes are drawn at temperature {generation.temperature:g}, top_p {generation.top_p:g}"
    hold = "for any time" if generation.max_hold is None else f"for at most {generation.max_hold} steps"
    return f"{how}, and held {hold} (dance.temperature, dance.top_p, dance.max_hold)"


def remarks(dance: Dance, generation: GenerationConfig) -> list[str]:
    """Remarks on a dance that mostly stands still, with settings to try; none on any other.

    The rest until the first beat (`dance.start: beat`) does not count.

    Args:
        dance: the dance.
        generation: how its codes were generated.
    """
    rest = int(dance.provenance["first_step"]) * dance.frames_per_code
    moving = dance.joints[rest:]
    if len(moving) < 2 * dance.fps:
        return []
    still, speed = freezing(moving, dance.fps), float(mean_speed(moving, dance.fps).mean() * dance.fps)
    if still < _STILL_SHARE and speed >= _STILL_SPEED:
        return []
    advice = "dance.temperature=1 dance.top_p=0.9 dance.max_hold=10"
    if generation.temperature > 0:
        other = "a higher dance.temperature or dance.top_p"
        advice = f"generation.seed={generation.seed + 1}, or {other}"
    slow = f"slower than {100 * STILL_SPEED:.0f} cm/s for {100 * still:.0f} % of the time"
    return [f"mostly stands still: it moves {slow}, and at {speed:.2f} m/s on average; try {advice}"]


def _check(wanted: DanceConfig, temperature: float, songs: Sequence[str], folder: Path) -> None:
    """Raise ValueError if the settings leave nothing to do, or cannot be met by any song."""
    if wanted.variants > 1 and temperature == 0:
        raise ValueError(
            f"dance.variants is {wanted.variants}, but at dance.temperature 0 all variants are the same "
            "dance; set dance.temperature=1 to draw codes"
        )
    if not songs:
        raise ValueError("--dance needs songs: sound files, or folders of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out needs a folder")


def _request(
    name: str, title: str, song: Song, variant: int, start: str, memory: ChoreographicMemory
) -> Request:
    beats = np.flatnonzero(song.beats)
    first = int(beats[0]) // memory.frames_per_code if start == "beat" and len(beats) else 0
    stem, mark = one_line(song.path.stem), "" if variant == 1 else f"_v{variant}"
    return Request(name, f"{title}{mark}", song, variant, f"{stem}{mark}", first)


def generate_codes(
    gpt: AcceleratedGPT,
    requests: Sequence[Request],
    opening: Codes,
    locked: Codes | None,
    config: GPTRunConfig,
    device: torch.device,
) -> list[Codes]:
    """The codes (n,) each of every dance from its first step on; no dance depends on another.

    Locked codes take precedence over the opening.
    """
    prompts, how = [], config.dance.drawing(config.generation)
    for request in requests:
        features, first = request.song.features, request.first_step
        steps = len(features) - first
        given = cut(opening, 0, steps)
        if locked is not None:
            given = overlay(given, cut(locked, first, steps))
        prompts.append(Prompt(with_context(features, first, steps, gpt.gpt.reach), given, request.key))
    order = sorted(range(len(requests)), key=lambda i: -len(prompts[i].music))
    generated: dict[int, Codes] = {}
    while order:
        size = max(1, _BATCH_STEPS // len(prompts[order[0]].music))
        now, order = order[:size], order[size:]
        codes = generate(gpt, [prompts[i] for i in now], how, device, progress=True)
        generated |= dict(zip(now, codes, strict=True))
    return [generated[i] for i in range(len(requests))]


def decode(
    request: Request, codes: Codes, networks: Networks, level: bool, facts: Provenance
) -> tuple[Dance, float | None]:
    """The dance as long as its song, still until its first step.

    Args:
        request: the dance.
        codes: (n,) each, from its first step on.
        networks: the memory decodes.
        level: whether the slow drift of height is removed.
        facts: provenance that all dances of the run share.

    Returns:
        The dance, and by how many metres its floor drifted; None if that was left as it is.
    """
    memory, rest, song = networks.memory, request.first_step, request.song
    still, fps = rest * memory.frames_per_code, float(memory.skeleton.fps)
    motion = memory.decode_motion(codes)
    length = len(song.beats) - still
    joints = motion.joints.numpy()[:length]
    rotations = None if motion.rotations is None else _after_rest(motion.rotations.numpy()[:length], still)
    drift = None
    if level:
        joints, drift = level_floor(joints, fps)
    joints = _after_rest(joints, still)
    both = torch.stack([codes.upper, codes.lower], dim=1).numpy()
    both = np.concatenate([np.full((rest, 2), FREE, both.dtype), both])
    own: dict[str, str | int | float] = {"song_file": one_line(song.path.name), "variant": request.variant}
    own |= {"key": request.key, "first_step": rest, "tempo": str(song.tempo)}
    if song.beats_from:
        own |= {"beats_from": song.beats_from}
    if song.tempo.known:
        own |= {"tempo_bpm": round(song.tempo.bpm, 2), "tempo_unsteady": song.tempo.unsteady}
    dance = Dance(
        request.name,
        joints,
        song.beats[: len(joints)],
        fps,
        one_line(song.path.stem),
        both[: -(-len(joints) // memory.frames_per_code)],
        {**own, **facts},
        memory.frames_per_code,
        memory.skeleton,
        rotations,
    )
    return dance, drift


def _after_rest(motion: np.ndarray, frames: int) -> np.ndarray:
    """Motion (T, ...) after so many frames of its first pose."""
    return np.concatenate([np.repeat(motion[:1], frames, axis=0), motion])


def _facts(config: GPTRunConfig, networks: Networks) -> Provenance:
    """Provenance that all dances of a run share."""
    plain = to_plain(config)
    return {
        "run": config.name,
        **networks.facts,
        "seed": config.generation.seed,
        "generation": json.dumps(to_plain(config.dance.drawing(config.generation)), sort_keys=True),
        "dance": json.dumps(plain["dance"], sort_keys=True),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
