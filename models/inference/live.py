"""Generate a dance while its music plays: sound in, poses out as JSON lines.

    python -m models.inference.live --config configs/sample/actor_critic.yaml SONG [key=value ...]
    ffmpeg -i SONG -f f32le -ac 1 -ar 44100 - | python -m models.inference.live --config CONFIG - --rate 44100

Standard output gets a line per frame, at the pace of the music: its number, its time in the music in seconds,
the codes, and the joints in metres. A pose follows its music by the look-ahead of features and decoder and a
margin for computing, which is printed at the start; standard error gets a summary at the end. Exit codes: 0;
2 if the command, the config or a file must be corrected; 130 after Ctrl-C.

The features are those of `datasets.live`, so a dance differs from that of --dance. The height is levelled as
it arrives (`dance.level`), but not moved to the ground, which only the whole dance shows.
"""

import argparse
import json
import logging
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import torch

from datasets.live import AHEAD, BLOCK, LiveFeatures, samples_per_step
from datasets.music import sample_rate
from models.generation import cut, overlay
from models.inference.prompts import Networks, load_networks, locked_codes, opening_codes
from models.stages.base import GPTRunConfig
from models.stages.registry import read_config
from models.streaming import DanceStream
from utils.export.level import LevelStream
from utils.music.audio import decode_audio
from utils.music.beats import mono_mix, to_feature_rate
from utils.music.hpss import HOP
from utils.training import distributed

log = logging.getLogger(__name__)
_SAMPLES = {"f32": "<f4", "s16": "<i2"}  # of raw sound
_CHUNK_S = 0.1  # seconds of raw sound that are read at a time
_WAITING_FRAMES = 1200  # poses that may wait until they are due; computing pauses beyond
_POLL_S = 0.2  # between checks whether the reader of the poses has gone


class Arrival(NamedTuple):
    """A chunk of sound: samples (n,) float32 at the features' rate, and when it arrived (`perf_counter`)."""

    samples: np.ndarray
    time: float


class PoseWriter(threading.Thread):
    """Writes lines when they are due.

    Attributes:
        closed: whether the reader at the other end of the pipe has gone.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(daemon=True)
        self.file, self.closed = file, False
        self._lines: queue.Queue[tuple[float, str] | None] = queue.Queue(_WAITING_FRAMES)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Write until the end; after `stop` or a closed pipe take what comes and drop it."""
        while (item := self._lines.get()) is not None:
            due, line = item
            if self.closed or self._stopped.wait(max(0.0, due - time.perf_counter())):
                continue
            try:
                self.file.write(line)
                self.file.flush()
            except (BrokenPipeError, ValueError):
                self.closed = True

    def put(self, due: float, line: str) -> None:
        """Add a line that is due at a time of `perf_counter`."""
        self._lines.put((due, line))

    def finish(self) -> None:
        """Wait until all lines are written."""
        self._lines.put(None)
        while self.is_alive():
            self.join(_POLL_S)

    def stop(self) -> None:
        """Drop the lines that are not written yet."""
        self._stopped.set()
        self.finish()


class Statistics:
    """Latencies, missed deadlines and speed of a run.

    Attributes:
        latencies: seconds from the arrival of the sound that completed some poses to these poses.
        busy: seconds spent computing.
        frames: number of poses.
        missed: how many of them were computed after they were due.
        music: seconds of music.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.busy, self.frames, self.missed, self.music = 0.0, 0, 0, 0.0

    def summary(self, fast: bool) -> str:
        """One line; without deadlines if nothing had to be in time."""
        parts = [f"{self.music:.1f} s of music, {self.frames} poses"]
        if self.latencies:
            p50, p95, p99 = np.percentile(self.latencies, (50, 95, 99))
            parts.append(f"latency P50 {p50:.3f} s, P95 {p95:.3f} s, P99 {p99:.3f} s")
        if not fast:
            parts.append(f"missed deadlines {self.missed} of {self.frames}")
        if self.busy:
            parts.append(f"real-time factor {self.music / self.busy:.1f}")
        return "; ".join(parts)


class LiveDance:
    """Sound in, frames out: features, codes, joints, levelled floor."""

    def __init__(self, config: GPTRunConfig, networks: Networks, key: str) -> None:
        fps = networks.codes_per_second
        self.features = LiveFeatures(fps, networks.features)
        given, locked = opening_codes(config, networks), locked_codes(config.dance, networks)
        if locked is not None:
            length = max(len(given.upper), len(locked.upper))
            given = overlay(cut(given, 0, length), cut(locked, 0, length))
        drawing = config.dance.drawing(config.generation)
        how = drawing.model_copy(update={"compile": False})  # it would stop the music for a while
        self.stream = DanceStream(networks.gpt, networks.memory, given, how, key)
        self.level = LevelStream(float(networks.memory.skeleton.fps)) if config.dance.level else None
        self.codes: deque[tuple[int, int]] = deque()  # of the frames to come

    def push(self, samples: np.ndarray, last: bool) -> np.ndarray:
        """Take samples (n,) and return the joints (m, 24, 3) that became final."""
        features = torch.from_numpy(self.features.push(samples, last))
        chunk = self.stream.push(features, last)
        self.codes.extend(zip(chunk.codes.upper.tolist(), chunk.codes.lower.tolist(), strict=True))
        joints = chunk.joints.float().cpu().numpy()
        return joints if self.level is None else self.level.push(joints)


def song_arrivals(path: Path, networks: Networks, fast: bool) -> Iterator[Arrival]:
    """The sound of a file, a music step at a time, as if it were played; at once if `fast`."""
    fps, version = networks.codes_per_second, networks.features
    samples, rate = decode_audio(path, mono_mix(version))
    live_rate, step = sample_rate(fps, version), samples_per_step(fps, version)
    samples = to_feature_rate(samples, rate, live_rate / HOP, version)
    start = time.perf_counter()
    for end in range(step, len(samples) + step, step):
        arrival = start + end / live_rate
        if fast:
            arrival = time.perf_counter()
        else:
            time.sleep(max(0.0, arrival - time.perf_counter()))
        yield Arrival(samples[end - step : end], arrival)


def raw_arrivals(
    file: BinaryIO, rate: int, kind: str, networks: Networks, writer: PoseWriter
) -> Iterator[Arrival]:
    """Raw mono samples as they arrive, resampled; ends with the stream or with the writer's reader."""
    import soxr

    item = np.dtype(_SAMPLES[kind])
    chunks: queue.Queue[tuple[bytes, float]] = queue.Queue(64)

    def read() -> None:
        size = max(1, round(_CHUNK_S * rate)) * item.itemsize
        while data := file.read(size):
            chunks.put((data, time.perf_counter()))
        chunks.put((b"", time.perf_counter()))

    threading.Thread(target=read, daemon=True).start()
    target_rate = sample_rate(networks.codes_per_second, networks.features)
    resampler = soxr.ResampleStream(rate, target_rate, 1, dtype="float32")
    last = False
    while not last and not writer.closed:
        try:
            data, arrival = chunks.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        last = not data
        samples = np.frombuffer(data[: len(data) // item.itemsize * item.itemsize], item)
        mono = samples.astype(np.float32) / (32768 if kind == "s16" else 1)
        yield Arrival(resampler.resample_chunk(mono, last=last), arrival)


def run(
    dance: LiveDance,
    arrivals: Iterator[Arrival],
    networks: Networks,
    writer: PoseWriter,
    delay: float | None,
    statistics: Statistics,
) -> None:
    """Generate poses from sound as it arrives and hand them to the writer.

    Args:
        dance: generates them.
        arrivals: the sound.
        networks: memory and GPT.
        writer: writes them.
        delay: seconds from the start of the sound to the first pose; None: poses are due at once.
        statistics: filled in.
    """
    fps, per_code = float(networks.memory.skeleton.fps), networks.memory.frames_per_code
    rate = sample_rate(networks.codes_per_second, networks.features)
    start, arrived, samples = 0.0, 0.0, 0
    for chunk in _then_end(arrivals):
        if writer.closed:
            return
        last = chunk is None
        if chunk is not None:
            start = start or chunk.time - len(chunk.samples) / rate
            arrived, samples = chunk.time, samples + len(chunk.samples)
            statistics.music = samples / rate
        begin = time.perf_counter()
        joints = dance.push(np.zeros(0, np.float32) if chunk is None else chunk.samples, last)
        now = time.perf_counter()
        statistics.busy += now - begin
        if last:  # as many frames as beats of the song
            joints = joints[: max(0, 1 + int(samples * fps / rate) - statistics.frames)]
        if len(joints):
            statistics.latencies.append(now - max(begin if last else 0.0, arrived))
        for pose in joints:
            number = statistics.frames
            due = now if delay is None else start + delay + number / fps
            statistics.missed += due < now
            line = {
                "frame": number,
                "time": round(number / fps, 4),
                "codes": dance.codes[0],
                "joints": np.round(pose.astype(np.float64), 4).tolist(),
            }
            writer.put(due, json.dumps(line) + "\n")
            statistics.frames += 1
            if statistics.frames % per_code == 0:
                dance.codes.popleft()


def _then_end(arrivals: Iterator[Arrival]) -> Iterator[Arrival | None]:
    yield from arrivals
    yield None


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.inference.live",
        description="Generate a dance while its music plays: JSON lines of poses on standard output.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML of a stage with a motion GPT")
    parser.add_argument("song", help="sound file, or - for raw mono samples from standard input")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument("--rate", type=int, help="samples per second of standard input")
    parser.add_argument("--format", choices=_SAMPLES, default="f32", help="of its samples (f32)")
    parser.add_argument("--fast", action="store_true", help="as fast as possible, not at the music's pace")
    parser.add_argument("--margin", type=float, default=0.5, help="seconds for computing (0.5)")
    options = parser.parse_intermixed_args(arguments)
    if options.song == "-" and (options.rate is None or options.rate <= 0):
        parser.error("raw samples from standard input need their --rate, e.g. --rate 44100")
    if options.song != "-" and options.rate is not None:
        parser.error("--rate goes with raw samples from standard input (-) only; a file has its own")
    if options.margin < 0:
        parser.error(f"--margin must not be negative, got {options.margin}")
    return options


def live(options: argparse.Namespace, statistics: Statistics) -> bool:
    """Run the command; return whether somebody read the poses to the end.

    Raises:
        FileNotFoundError: if the config, a checkpoint or the song is missing.
        ValueError: if one of them cannot be used.
    """
    config = read_config(options.config, options.overrides)
    if options.song != "-" and not Path(options.song).is_file():
        raise FileNotFoundError(f"there is no sound file {options.song}; check the path and the spelling")
    if not isinstance(config, GPTRunConfig):
        raise ValueError(
            f"stage {config.stage} has no motion GPT to generate dances with; use "
            "configs/actor_critic.yaml or configs/cc_motion_gpt.yaml"
        )
    if config.dance.start != "first":
        raise ValueError(f"dance.start {config.dance.start} needs the whole song; use dance.start=first")
    for key in ("bpm", "beats"):
        if getattr(config.dance, key) is not None:
            raise ValueError(
                f"dance.{key} belongs to a whole song, live music is tracked as it arrives; leave it out, or "
                "use main.py --dance"
            )
    networks = load_networks(config, distributed.device(config.device))
    fps, ahead, reach = networks.codes_per_second, networks.memory.config.conv.look_ahead, networks.gpt.reach
    warm_up(config, networks)
    delay = (BLOCK + AHEAD + reach + ahead) / fps
    log.info(
        "look-ahead %.2f s: %.2f s of the features, %d codes or %.2f s of the decoder; %s",
        delay,
        (BLOCK + AHEAD) / fps,
        ahead,
        ahead / fps,
        "poses come as fast as possible"
        if options.fast
        else f"poses follow the music by {delay + options.margin:.2f} s",
    )
    writer = PoseWriter(sys.stdout)
    writer.start()
    if options.song == "-":
        key = "live"
        arrivals = raw_arrivals(sys.stdin.buffer, options.rate, options.format, networks, writer)
    else:
        key = Path(options.song).stem
        arrivals = song_arrivals(Path(options.song), networks, options.fast)
    dance = LiveDance(config, networks, key)
    try:
        run(dance, arrivals, networks, writer, None if options.fast else delay + options.margin, statistics)
        writer.finish()
    except BaseException:
        writer.stop()
        raise
    return not writer.closed


def warm_up(config: GPTRunConfig, networks: Networks) -> None:
    """Compute a few seconds of noise, as first calls of numba, librosa and torch are slow."""
    rate = sample_rate(networks.codes_per_second, networks.features)
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * rate).astype(np.float32)
    LiveDance(config, networks, "").push(noise, last=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; what a user can correct ends with one line and exit code 2."""
    options, statistics, code = parse_arguments(arguments), Statistics(), 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if not live(options, statistics):
            # The reader of the poses has gone: end quietly, without the flush at exit that would fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    except KeyboardInterrupt:
        code = 130
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    log.info("%s", statistics.summary(options.fast))
    return code


if __name__ == "__main__":
    sys.exit(main())
