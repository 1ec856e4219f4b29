"""Speed of generation at the published size with random weights, beside the published loop.

    python -m tests.benchmarks.generation [--threads 2] [--seconds 30] [--songs 40] [--stream-seconds 600]

One run measures everything: all ways generate two seconds of dance in turn, so that other load slows all of
them alike; `quiet` is the factor computed from the shortest of all passes over the same number of tokens. The
published loop is the full pass over the window for every code, logits of every position. Also printed: the
share of the machine's own limit that was reached, the limit being the longer of reading the weights once and
doing the arithmetic at the speeds of memory and matrix products measured in the same run; the time that
compiling takes before the first song; and for a stream the wait for the first pose, sustained speed, memory.
"""

import argparse
import os
import time
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.generation import EncodedMusic, GenerationConfig, Generator, accelerated, attention_window
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig
from models.streaming import DanceStream
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig

CODES_PER_SECOND = 7.5
MUSIC_CHANNELS = 438
BATCH_SECONDS = 20.0
TURN = 15


class Way(NamedTuple):
    """A way of generating: name, config, songs at once, and target speed relative to the published loop.

    `by_frame`: by a GPT behind a music transformer.
    """

    name: str
    how: GenerationConfig
    songs: int
    target: float | None
    by_frame: bool = False


class Peaks(NamedTuple):
    """Measured rates of the machine: bytes read per second, fp32 and bf16 operations per second."""

    memory: float
    fp32: float
    bf16: float


class PublishedLoop:
    """The full pass for every code."""

    def __init__(self, gpt: MotionGPT, music: Tensor) -> None:
        self.gpt, self.music, self.codes, self.tokens = gpt, music, Codes(*torch.zeros(2, 1, 1).long()), []

    def step(self, k: int) -> None:
        """Generate code k of the song; k counts from 1."""
        length = min(k, self.gpt.config.context - 1)
        seen = Codes(*(half[:, -length:] for half in self.codes))
        logits = self.gpt(self.music[:, k + 1 - length : k + 1], seen)
        now = [half[:, -1:].argmax(-1) for half in logits]
        self.codes = Codes(*(torch.cat(pair, 1) for pair in zip(self.codes, now, strict=True)))
        self.tokens.append(3 * length)


class OurLoop:
    """A generator of this project; counts the tokens of each pass.

    Attributes:
        start_up: seconds that compiling took, in a song generated before; nan if nothing is compiled.
    """

    def __init__(self, gpt: MotionGPT, music: Tensor, way: Way) -> None:
        self.features, self.how, self.start_up = music, way.how, float("nan")
        self.forward = accelerated(gpt, way.how)
        self._begin()
        if way.how.compile:
            start = time.perf_counter()
            for k in range(1, min(music.shape[1], 3 * self.generator.window)):
                self.step(k)
            self.start_up = time.perf_counter() - start
            self._begin()

    def _begin(self) -> None:
        self.tokens: list[int] = []
        self.batch = len(self.features)
        self.music = EncodedMusic(self.forward.gpt, list(self.features), self.how, torch.device("cpu"))
        self.generator = Generator(self.forward, self.how, [str(i) for i in range(self.batch)])
        self.generator.step(self.music.of_step(0, self.batch), Codes(*torch.zeros(2, self.batch).long()))

    def step(self, k: int) -> None:
        """Generate code k of every song; k counts from 1."""
        window = attention_window(k, self.generator.window, self.generator.hop)
        new = window.stop - window.start if window.rebuild or not self.generator.caches else 1
        self.generator.step(self.music.of_step(k, self.batch))
        self.tokens.append(3 * new * self.batch)


def peaks() -> Peaks:
    """Measure the machine now; the best of several tries."""
    numbers, square = torch.randn(64_000_000), torch.randn(2048, 2048)
    rough = square.bfloat16()
    operations = 2.0 * 2048**3
    return Peaks(
        4 * len(numbers) / best(lambda: numbers.sum()),
        operations / best(lambda: square @ square),
        operations / best(lambda: rough @ rough),
    )


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Shortest of several times, in seconds; the first call does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def resident_megabytes() -> float:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


@torch.no_grad()
def compare(gpt: MotionGPT, seconds: float, songs: int) -> None:
    """Print the table of all ways: seconds per song, and the factor by which the published loop is slower."""
    hop, bf16, compiled = {"window": "hop"}, {"precision": "bf16"}, {"compile": True}
    song = {"music_context": "song"}
    ways = [
        Way("exact, fp32", GenerationConfig(), 1, 2),
        Way("exact, fp32_onednn", GenerationConfig(precision="fp32_onednn"), 1, 2),
        Way("exact, fp32, compiled", GenerationConfig(**compiled), 1, 2),
        Way("exact, bf16", GenerationConfig(**bf16), 1, 3.5),
        Way("exact, bf16, compiled", GenerationConfig(**bf16, **compiled), 1, 3.5),
        Way("hop, fp32", GenerationConfig(**hop), 1, 5),
        Way("hop, fp32_onednn", GenerationConfig(**hop, precision="fp32_onednn"), 1, 5),
        Way("hop, fp32, compiled", GenerationConfig(**hop, **compiled), 1, 5),
        Way("hop, bf16", GenerationConfig(**hop, **bf16), 1, 9),
        Way("hop, bf16, compiled", GenerationConfig(**hop, **bf16, **compiled), 1, 9),
        Way("music transformer, exact", GenerationConfig(), 1, 2 / 1.5, by_frame=True),
        Way("the same, context song", GenerationConfig(**song), 1, None, by_frame=True),
        Way("the same, context song, hop", GenerationConfig(**song, **hop), 1, None, by_frame=True),
        Way(f"{songs} songs, hop, fp32", GenerationConfig(**hop), songs, 30),
        Way(f"{songs} songs, hop, fp32, compiled", GenerationConfig(**hop, **compiled), songs, 30),
        Way(f"{songs} songs, hop, bf16", GenerationConfig(**hop, **bf16), songs, 30),
        Way(f"{songs} songs, hop, bf16, compiled", GenerationConfig(**hop, **bf16, **compiled), songs, 30),
    ]
    steps = round(seconds * CODES_PER_SECOND)
    short = min(steps, round(BATCH_SECONDS * CODES_PER_SECOND))
    music = torch.randn(songs, steps, MUSIC_CHANNELS)
    published = PublishedLoop(gpt, music[:1])
    by_frame = MotionGPT(GPTConfig(music_transformer=MusicTransformerConfig()), gpt.num_codes, 440, 8).eval()
    frames = torch.randn(1, steps + 2 * by_frame.reach, 440)
    loops = [
        OurLoop(by_frame, frames, way) if way.by_frame else OurLoop(gpt, music[: way.songs], way)
        for way in ways
    ]
    times: list[list[float]] = [[] for _ in range(len(ways) + 1)]
    before = peaks()
    for begin in range(1, steps, TURN):
        for n, loop in enumerate([published, *loops]):
            for k in range(begin, min(begin + TURN, short if n and ways[n - 1].songs > 1 else steps)):
                start = time.perf_counter()
                loop.step(k)
                times[n].append(time.perf_counter() - start)
    after = peaks()
    peak = Peaks(*(max(pair) for pair in zip(before, after, strict=True)))
    print(
        f"memory {peak.memory / 1e9:.0f} GB/s read, matrix product {peak.fp32 / 1e9:.0f} GFLOP/s fp32, "
        f"{peak.bf16 / 1e9:.0f} bf16; {torch.get_num_threads()} threads; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    widths = {
        "s/song": 8,
        "real time": 10,
        "factor": 7,
        "quiet": 7,
        "target": 7,
        "of limit": 8,
        "start-up": 9,
    }
    print(f"{'':32} {' '.join(f'{name:>{width}}' for name, width in widths.items())}")
    rows = [("published loop", 1, None, "fp32", published), *_rows(ways, loops)]
    for n, (name, at_once, target, precision, loop) in enumerate(rows):
        count = len(times[n])
        per_song = sum(times[n]) / at_once
        factor = sum(times[0][:count]) / per_song
        quiet = sum(_quiet(times[0], published.tokens)[:count]) / sum(_quiet(times[n], loop.tokens)) * at_once
        start_up = loop.start_up if isinstance(loop, OurLoop) else float("nan")
        limit = sum(_limit(gpt, tokens, precision, peak) for tokens in loop.tokens) / sum(times[n])
        print(
            f"{name:32} {per_song:8.2f} {count / CODES_PER_SECOND / per_song:9.1f}x {factor:6.1f}x "
            f"{quiet:6.1f}x {'' if target is None else f'{target:g}x':>7} {limit:8.0%} "
            f"{'' if isnan(start_up) else f'{start_up:.0f} s':>9}"
        )


def _rows(ways: list[Way], loops: list[OurLoop]) -> list[tuple]:
    return [(w.name, w.songs, w.target, w.how.precision, loop) for w, loop in zip(ways, loops, strict=True)]


def _quiet(times: list[float], tokens: list[int]) -> list[float]:
    """Times of the passes, each replaced by the shortest of all passes over the same number of tokens."""
    shortest = {n: min(t for t, m in zip(times, tokens, strict=True) if m == n) for n in set(tokens)}
    return [shortest[n] for n in tokens]


def _limit(gpt: MotionGPT, tokens: int, precision: str, peak: Peaks) -> float:
    """Least seconds of a pass over n tokens: reading the blocks' weights, or the arithmetic."""
    weights = sum(p.numel() for b in [*gpt.base.blocks, *gpt.head.blocks] for p in b.parameters())
    rough = precision == "bf16"
    arithmetic = 2 * weights * tokens / (peak.bf16 if rough else peak.fp32)
    return max(weights * (2 if rough else 4) / peak.memory, arithmetic)


@torch.no_grad()
def measure_stream(gpt: MotionGPT, seconds: float, precision: str) -> None:
    """Print the speed of generating from a stream of music that arrives one step at a time."""
    memory = ChoreographicMemory(MemoryConfig(), velocity=True).eval()
    first, how = Codes(*torch.zeros(2, 1).long()), GenerationConfig(window="hop", precision=precision)
    dance = DanceStream(gpt, memory, first, how)
    conv, steps = memory.config.conv, round(seconds * CODES_PER_SECOND)
    waits, frames, held, first_wait = [], 0, [], float("nan")
    for k in range(steps):
        music = torch.randn(1, MUSIC_CHANNELS)
        start = time.perf_counter()
        out = len(dance.push(music).joints)
        waits.append(time.perf_counter() - start)
        if out and not frames:
            first_wait = waits[-1]
        frames += out
        if k % round(60 * CODES_PER_SECOND) == round(30 * CODES_PER_SECOND):
            held.append(resident_megabytes())
    held.append(resident_megabytes())
    ahead = conv.look_ahead
    slow = sorted(waits)[int(0.99 * len(waits))]
    print(
        f"stream, hop, {precision}: first pose {first_wait:.2f} s after enough music (target 0.5), which is "
        f"{ahead} codes or {ahead / CODES_PER_SECOND:.1f} s; {seconds / sum(waits):.1f}x real time over "
        f"{seconds:g} s; 99 of 100 chunks of {1 / CODES_PER_SECOND:.2f} s within {slow:.2f} s; "
        f"memory by the minute {', '.join(f'{m:.0f}' for m in held)} MB"
    )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--songs", type=int, default=40)
    parser.add_argument("--stream-seconds", type=float, default=600.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    gpt = MotionGPT(GPTConfig(), (512, 512), MUSIC_CHANNELS).eval()
    compare(gpt, args.seconds, args.songs)
    for precision in ("fp32", "bf16"):
        measure_stream(gpt, args.stream_seconds, precision)


if __name__ == "__main__":
    main()
