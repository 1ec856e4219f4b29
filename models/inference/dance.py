"""--dance: any songs become dances, composed in batches of a few songs, each with its files and pages.

The songs go by turns: those of a turn are analysed, their dances composed as one batch and written, then
comes the next, so that what is finished is there whatever happens later. No dance depends on others.

Exit codes: 0 if every song has its dances and every file is written; 1 if some is not; 2 if none is, or the
config or the weights cannot be used.
"""

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.generation import FREE, GenerationConfig, Prompt, cut, generate, overlay
from models.inference.dancer import (
    DanceConfig,
    Dancer,
    DancingConfig,
    load_dancer,
    locked_codes,
    opening_codes,
)
from models.inference.outputs import SUFFIXES, Danced, facts_of, write_dance
from models.inference.pages import Failures, kept_apart
from models.inference.progress import Progress, clock, say
from models.inference.songs import FileNames, Found, HeardSong, find_songs, hear_each, named, one_line
from models.stages.base import RunConfig
from models.vqvae import ChoreographicMemory, Codes
from utils.config import to_plain
from utils.export import level_floor
from utils.metrics.beats import mean_speed
from utils.metrics.physical import STILL_SPEED, freezing
from utils.render.index import IndexEntry, write_index

log = logging.getLogger(__name__)
_DANCES_PER_TURN = 8  # composed as one batch and then written: larger batches are hardly faster
_COMPILED_PER_TURN = 64  # likewise with generation.compile, which costs each batch half a minute at its start
_BATCH_STEPS = 400_000  # music steps of a batch, padding included: 0.7 GB of features; more go by turns
_PACKAGES = ("torch", "numpy", "scipy", "librosa", "av")
_STILL_SHARE = 0.4  # of the time, from which a dance is said to stand still mostly; real dances: 0
_STILL_SPEED = 0.12  # m/s, mean over joints and time, likewise; half of that of the slowest real dances


class Plan(NamedTuple):
    """A dance to be made.

    Attributes:
        name: of its files.
        title: the song's own name, as pages, pictures and the video show it.
        song: analysed.
        variant: 1, 2, ...
        key: decides its draws, with the seed.
        first_step: of the music, on which it starts to move.
    """

    name: str
    title: str
    song: HeardSong
    variant: int
    key: str
    first_step: int


def dance(config: RunConfig, songs: Sequence[str], device: torch.device, out: Path | None = None) -> int:
    """Dances to songs.

    Args:
        config: of a stage with a motion GPT.
        songs: sound files, and folders of them.
        device: where it is composed.
        out: folder of all files; <run folder>/dance if None.

    Returns:
        The exit code, 0 or 1, see above.

    Raises:
        FileNotFoundError: if a checkpoint or a file that the config names is missing.
        ValueError: if the config or a checkpoint cannot be used, or no song is left.
    """
    if not isinstance(config, DancingConfig):
        raise ValueError(
            f"stage {config.stage} has no motion GPT and cannot dance; use configs/actor_critic.yaml or "
            "configs/cc_motion_gpt.yaml"
        )
    folder = out or config.folder / "dance"
    _check(config.dance, config.generation.temperature, songs, folder)
    progress = Progress()
    log.info("loading the weights that %s names", config.name)
    with progress.of("weights"):
        dancer = load_dancer(config, device)
    facts = dancer.facts
    log.info(
        "%s, epoch %s, of %s: %.1f s", facts["stage"], facts["epoch"], facts["checkpoint"], progress.total
    )
    opening, locked = opening_codes(config, dancer), locked_codes(config.dance, dancer)
    found = find_songs([Path(song) for song in songs])
    for path, why in found.skipped.items():
        log.info("skipped: %s: %s", one_line(path), why)
    for path, why in found.failed.items():
        log.warning("not danced to: %s", named(path, why))
    call = _Call(config, device, dancer, (opening, locked), folder, found, progress)
    with progress.bars(len(found.songs) * config.dance.variants):
        call.run()
    if not call.entries:
        raise ValueError(f"none of the songs can be danced to ({len(call.failed)} failed, see above)")
    call.write_index()
    for line in progress.summary():
        log.info("%s", line)
    say(f"songs: {call.analysed}, dances: {len(call.entries)}; open {folder / 'index.html'}")
    for what, items in (("not danced to", call.failed), ("could not be made", call.broken)):
        if items:
            say(f"{len(items)} {what}:")
            say([f"  {named(key, why)}" for key, why in items.items()])
    return 1 if call.failed or call.broken else 0


class _Call:
    """One call of --dance: takes its songs by turns, and keeps what is made and what fails.

    Attributes:
        entries: cards of the dances that are written.
        analysed: how many songs could be read.
        failed: file of a song, or folder -> why there is no dance to it.
        broken: what could not be made -> why.
    """

    def __init__(
        self,
        config: DancingConfig,
        device: torch.device,
        dancer: Dancer,
        given: tuple[Codes, Codes | None],
        folder: Path,
        found: Found,
        progress: Progress,
    ) -> None:
        self.config, self.device, self.dancer, self.given = config, device, dancer, given
        self.folder, self.songs, self.progress = folder, found.songs, progress
        self.names = FileNames(folder, SUFFIXES, found.songs)
        self.facts = _facts(config, dancer)
        self.fps = float(dancer.memory.skeleton.fps)
        self.entries: list[IndexEntry] = []
        self.analysed = 0
        self.failed = dict(found.failed)
        self.broken = Failures()

    def run(self) -> None:
        """Takes as many songs in turn as give a batch of `_DANCES_PER_TURN` dances, at least one."""
        dances = _COMPILED_PER_TURN if self.config.generation.compile else _DANCES_PER_TURN
        size = max(1, dances // self.config.dance.variants)
        for start in range(0, len(self.songs), size):
            plans = self._plans(start, self.songs[start : start + size])
            if plans:
                self._write(plans, self._compose(plans))

    def _plans(self, start: int, songs: Sequence[Path]) -> list[Plan]:
        """Analyses the songs of a turn, the first of which is number `start`."""
        wanted = self.config.dance
        each, plans = hear_each(songs, self.dancer), []
        for number, path in enumerate(songs, start + 1):
            self.progress.doing(f"listening to {one_line(path.name)}")
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
            plans += [
                _plan(name, title, song, variant, wanted.start, self.dancer.memory)
                for variant, name in enumerate(names, 1)
            ]
        return plans

    def _about(self, song: HeardSong) -> str:
        """A song's length and tempo."""
        return f"{clock(len(song.beats) / self.fps)}, {song.tempo}"

    def _compose(self, plans: Sequence[Plan]) -> list[Codes]:
        length = sum(len(plan.song.beats) for plan in plans) / self.fps
        number = f"{len(plans)} dance{'s' if len(plans) > 1 else ''}"
        log.info("composing %s, %s of music", number, clock(length))
        self.progress.doing("composing")
        before = self.progress.total
        with self.progress.of("codes"):
            composed = compose(self.dancer, plans, *self.given, self.config, self.device)
        log.info("composed in %.1f s", self.progress.total - before)
        return composed

    def _write(self, plans: Sequence[Plan], composed: Sequence[Codes]) -> None:
        """Writes all files of each dance, and the index of all dances so far."""
        wanted, progress = self.config.dance, self.progress
        total = (len(self.songs) - len(set(map(str, self.songs)) & set(self.failed))) * wanted.variants
        for plan, codes in zip(plans, composed, strict=True):
            with progress.of("joints"):
                danced = _danced(plan, codes, self.dancer, wanted.level, self.facts)
            with progress.writing(len(self.entries) + 1, total, plan.title, self._about(plan.song)):
                entry = write_dance(self.folder, danced, wanted, progress, self.broken)
            notes = remarks(danced, self.config.generation)
            for note in notes:
                log.info("  %s %s", plan.title, note)
            self.entries.append(replace(entry, notes=[f"{note[0].upper()}{note[1:]}" for note in notes]))
            with progress.of("index"):
                self.write_index()

    def write_index(self) -> None:
        """Writes the index of all that there is by now."""
        reasons = {
            one_line(path): {"": one_line(why.replace(path, Path(path).name))}
            for path, why in self.failed.items()
        }
        tables = {"Not danced to": reasons} if reasons else {}
        with kept_apart("index of the dances", self.broken):
            write_index(self.folder, self.entries, f"{self.config.name} dances", tables)


def remarks(danced: Danced, generation: GenerationConfig) -> list[str]:
    """What is unusual about a dance, and what to try: that it mostly stands still.

    The rest until the first beat (`dance.start: beat`) does not count.

    Args:
        danced: the dance.
        generation: how its codes were composed.
    """
    rest = int(danced.facts["first_step"]) * danced.frames_per_code
    moving = danced.joints[rest:]
    if len(moving) < 2 * danced.fps:
        return []
    still, speed = freezing(moving, danced.fps), float(mean_speed(moving, danced.fps).mean() * danced.fps)
    if still < _STILL_SHARE and speed >= _STILL_SPEED:
        return []
    advice = "generation.temperature=1 generation.top_p=0.9"
    if generation.temperature > 0:
        other = "a higher generation.temperature or generation.top_p"
        advice = f"generation.seed={generation.seed + 1}, or {other}"
    slow = f"slower than {100 * STILL_SPEED:.0f} cm/s for {100 * still:.0f} % of the time"
    return [f"mostly stands still: it moves {slow}, and at {speed:.2f} m/s on average; try {advice}"]


def _check(wanted: DanceConfig, temperature: float, songs: Sequence[str], folder: Path) -> None:
    """Raises ValueError if there is nothing to do, or it cannot be done, whatever the songs are."""
    if wanted.variants > 1 and temperature == 0:
        raise ValueError(
            f"dance.variants is {wanted.variants}, but at generation.temperature 0 all variants are the same "
            "dance; set generation.temperature=1 to draw codes"
        )
    if not songs:
        raise ValueError("--dance needs songs: sound files, or folders of them")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out needs a folder")


def _plan(
    name: str, title: str, song: HeardSong, variant: int, start: str, memory: ChoreographicMemory
) -> Plan:
    beats = np.flatnonzero(song.beats)
    first = int(beats[0]) // memory.frames_per_code if start == "beat" and len(beats) else 0
    stem, mark = one_line(song.path.stem), "" if variant == 1 else f"_v{variant}"
    return Plan(name, f"{title}{mark}", song, variant, f"{stem}{mark}", first)


def compose(
    dancer: Dancer,
    plans: Sequence[Plan],
    opening: Codes,
    locked: Codes | None,
    config: DancingConfig,
    device: torch.device,
) -> list[Codes]:
    """The codes (n,) each of every dance, from where it sets out; no dance depends on another.

    Where a half is locked, that counts before the opening.
    """
    prompts = []
    for plan in plans:
        music = plan.song.features[plan.first_step :]
        given = cut(opening, 0, len(music))
        if locked is not None:
            given = overlay(given, cut(locked, plan.first_step, len(music)))
        prompts.append(Prompt(music, given, plan.key))
    order = sorted(range(len(plans)), key=lambda i: -len(prompts[i].music))
    composed: dict[int, Codes] = {}
    while order:
        size = max(1, _BATCH_STEPS // len(prompts[order[0]].music))
        now, order = order[:size], order[size:]
        codes = generate(dancer.gpt, [prompts[i] for i in now], config.generation, device, progress=True)
        composed |= dict(zip(now, codes, strict=True))
    return [composed[i] for i in range(len(plans))]


def _danced(
    plan: Plan, codes: Codes, dancer: Dancer, level: bool, facts: Mapping[str, str | int | float]
) -> Danced:
    """The dance as joints as long as the song, with the rest before it sets out."""
    memory, rest = dancer.memory, plan.first_step
    still = rest * memory.frames_per_code
    joints = memory.decode_dance(codes).numpy()[: len(plan.song.beats) - still]
    wandered = None
    if level:
        joints, wandered = level_floor(joints, float(memory.skeleton.fps))
    joints = np.concatenate([np.repeat(joints[:1], still, axis=0), joints])
    both = torch.stack([codes.upper, codes.lower], dim=1).numpy()
    both = np.concatenate([np.full((rest, 2), FREE, both.dtype), both])
    path = plan.song.path
    own = {"song": one_line(path.stem), "song_file": one_line(path.name), "variant": plan.variant}
    own |= {"key": plan.key, "first_step": rest, "tempo": str(plan.song.tempo)}
    if plan.song.tempo.known:
        own |= {"tempo_bpm": round(plan.song.tempo.bpm, 2), "tempo_unsteady": plan.song.tempo.unsteady}
    return Danced(
        plan.name,
        plan.song.path,
        joints,
        both[: -(-len(joints) // memory.frames_per_code)],
        plan.song.beats[: len(joints)],
        float(memory.skeleton.fps),
        memory.frames_per_code,
        {**own, **facts},
        wandered,
        plan.title,
    )


def _facts(config: DancingConfig, dancer: Dancer) -> dict[str, str | int | float]:
    """What every dance of this call came from."""
    plain = to_plain(config)
    return {
        "run": config.name,
        **dancer.facts,
        "seed": config.generation.seed,
        "generation": facts_of(plain["generation"]),
        "dance": facts_of(plain["dance"]),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
