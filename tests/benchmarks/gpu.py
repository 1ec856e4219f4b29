"""Whether everything is right on a GPU, and how fast: one command of less than six minutes.

    python -m tests.benchmarks.gpu [--only checks steps ...] [--out gpu] [--minutes 6] [--quick]

Checks: golden numbers; codes and joints of a processor; steps replayed as CUDA graphs against eager ones over
200 steps of each stage; training that resumes, bit for bit; steps that wait for the device. Times: training
steps at the published sizes in each precision, eager and replayed, with their kernels, the share of the time
that the GPU computes, and the share of its own peak; a real run of each stage against its bare step;
generation. Prints as it goes; a part that fails is reported and the rest goes on; a part that does not fit
the time is left out by name. Writes gpu.json and gpu.md into the folder.

Weights and data are random: a step's time does not depend on them. The published code's times were measured
on an NVIDIA H200 with torch 2.11; ratios to them say something on that card only. Without a GPU the checks
run on the processor, where nothing is replayed; `--quick` makes batches and songs small, to try it.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models.acceleration import AcceleratedGPT
from models.generation import GenerationConfig, Prompt, accelerated, generate
from models.gpt import GPTConfig, MotionGPT, MusicTransformerConfig
from models.stages.registry import STAGES, read_config
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.benchmarks.training import configured, make_checkpoints, make_data, steps, synchronise
from tests.golden.select_arrays import OUTPUTS
from tests.helpers import ROOT, golden
from tests.models.golden_models import gpt_small, memory_small
from tests.models.stages import synthetic
from tests.packing import sample
from utils.training.precision import default_precision, set_up_arithmetic, tf32
from utils.training.trainer import Trainer

MUSIC_CHANNELS = 438
# Milliseconds of the published code's step on an NVIDIA H200, and how many times faster ours has to be.
PUBLISHED = {
    "sep_vqvae": (44.6, 6),
    "sep_vqvae_root": (27.5, 10),
    "cc_motion_gpt": (61.2, 6),
    "actor_critic policy": (219.8, 10),
    "actor_critic value": (151.0, 10),
}
HALF_OF = {"sep_vqvae_root_mix": "sep_vqvae"}  # no time is published: half of our other step is the target
PUBLISHED_SONG = 2.37  # seconds for 30 s of dance there
SONG, SONGS_LENGTH = 225, 150  # codes of 30 and of 20 s
GRAPH_STEPS = 200
REAL_STEPS = 60
LOSS_TOLERANCE = 1e-4  # of replayed and eager losses in fp32; the same kernels give the same bits

Row = dict[str, Any]


class Context(NamedTuple):
    """What all parts need.

    Attributes:
        device: the GPU, or the processor.
        folder: an empty folder.
        quick: whether batches and songs are small.
        deadline: `time.perf_counter` by which the last part begins.
    """

    device: torch.device
    folder: Path
    quick: bool
    deadline: float

    @property
    def is_gpu(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"

    def late(self, seconds: float = 0.0) -> bool:
        """Whether that many seconds do not fit any more."""
        return time.perf_counter() + seconds > self.deadline


def show(row: Row) -> Row:
    """Print a row at once, and return it."""
    cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
    print("  " + "  ".join(f"{name}={cell}" for name, cell in zip(row, cells, strict=True)), flush=True)
    return row


# The machine ------------------------------------------------------------------------------------------------


def milliseconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Median time of a piece of work that is started, and waited for, again and again."""
    times = []
    for _ in range(repeats + 2):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a square product of random numbers."""
    size = 8192 if device.type == "cuda" else 1024
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, size, size, device=device).to(kind)
    with tf32(precision == "tf32"):
        return 2e3 * size**3 / milliseconds(lambda: a @ b, device, 5)


def machine(context: Context) -> Iterator[Row]:
    """Name, versions and peaks."""
    device = context.device
    name = torch.cuda.get_device_name(device) if context.is_gpu else "no GPU: the processor"
    yield show({"device": name, "torch": torch.__version__, "cuda": str(torch.version.cuda)})
    numbers = torch.randn((2 if context.is_gpu else 1) * 2**28, device=device)
    moved = 2 * 4 * numbers.numel()
    yield show({"peak": "copy", "TB/s": moved / milliseconds(numbers.clone, device, 5) / 1e9})
    for precision in ("fp32", "tf32", "bf16"):
        yield show({"peak": precision, "TFLOP/s": peak(device, precision) / 1e12})


# Checks -----------------------------------------------------------------------------------------------------


def check(name: str, right: bool, **found: Any) -> Row:
    """A row of a check."""
    return show({"check": name, "right": "yes" if right else "NO", **found})


def far(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> float:
    """The largest difference, relative to the largest number."""
    ours, theirs = (np.asarray(x.cpu() if torch.is_tensor(x) else x, np.float64) for x in (ours, theirs))
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def same_codes(ours: Codes, upper: Any, lower: Any) -> bool:
    """Whether codes are equal."""
    pairs = ((ours.upper, upper), (ours.lower, lower))
    return all(np.array_equal(np.asarray(a.cpu()), np.asarray(b)) for a, b in pairs)


@torch.no_grad()
def goldens(context: Context) -> Iterator[Row]:
    """The published system's numbers: codes and greedy dances exactly, the rest to 1e-5."""
    device = context.device
    for name in ("vq_small", "vqr_small"):
        memory, g = memory_small(name).eval().to(device), golden(f"{name}_eval.npz")
        codes = memory.encode(torch.from_numpy(g["x"]).to(device))
        off = far(sample(memory.decode(codes).cpu().numpy(), OUTPUTS), g["decode_sample"])
        right = same_codes(codes, g["codes_up"], g["codes_down"]) and off < 1e-5
        yield check(f"golden memory {name}", right, off=off)
    gpt, g = gpt_small().to(device), golden("gpt_small_vectors.npz")
    for prefix in ("s", "b"):
        music = torch.from_numpy(g[f"{prefix}_cond"])
        music = torch.cat([music[:, :1] * 0, music], 1)
        first = (torch.from_numpy(g[f"{prefix}_x0_{side}"]).long() for side in ("up", "down"))
        prompts = [Prompt(song, Codes(up, low)) for song, up, low in zip(music, *first, strict=True)]
        for graph in (False, None):
            made = generate(gpt, prompts, GenerationConfig(cuda_graph=graph), device)
            dances = Codes(*(torch.stack(half) for half in zip(*made, strict=True)))
            right = same_codes(dances, g[f"{prefix}_codes_up"], g[f"{prefix}_codes_down"])
            way = "eager" if graph is False else "replayed"
            yield check(f"golden dances {prefix}, {way}", right)


def lively_gpt() -> MotionGPT:
    """A small GPT whose weights are so large that every code depends on all it sees."""
    torch.manual_seed(0)
    config = GPTConfig(width=64, heads=4, base_blocks=2, head_blocks=2, context=29)
    gpt = MotionGPT(config, (61, 47), 8)
    for parameter in gpt.parameters():
        parameter.data.mul_(4 if parameter.ndim > 1 else 1)
    return gpt.eval()


@torch.no_grad()
def processor(context: Context) -> Iterator[Row]:
    """Codes and joints are those of a processor, for batches that shrink, windows and draws."""
    gpt, cpu = lively_gpt(), torch.device("cpu")
    lengths, first = (70, 12, 45, 33, 60), Codes(torch.tensor([1]), torch.tensor([2]))
    prompts = [Prompt(torch.randn(n, 8), first, str(n)) for n in lengths]
    for how in ({}, {"window": "hop"}, {"window": "hop", "temperature": 1.0, "top_p": 0.9}):
        theirs = generate(gpt, prompts, GenerationConfig(**how), cpu)
        ours = generate(gpt.to(context.device), prompts, GenerationConfig(**how), context.device)
        gpt.to(cpu)
        equal = sum(same_codes(a, b.upper, b.lower) for a, b in zip(ours, theirs, strict=True))
        yield check(
            f"codes as on a processor {how}", equal == len(prompts), equal=f"{equal} of {len(prompts)}"
        )
    memory = ChoreographicMemory(MemoryConfig(), velocity=True).eval()
    for half in memory.halves.values():
        half.quantizer.codebook.normal_()
    codes = Codes(*torch.randint(512, (2, 700)))
    theirs = memory.decode_dance(codes)
    ours = memory.to(context.device).decode_dance(codes)
    yield check("joints as on a processor", far(ours, theirs) < 1e-4, off=far(ours, theirs))


class Run(NamedTuple):
    """A training of a small stage: losses of all steps, the checkpoint, whether steps were replayed."""

    losses: list[float]
    content: dict[str, Any]
    replayed: bool


def train_small(context: Context, name: str, output: str, epochs: int, **training: Any) -> Run:
    """Train a stage of tests/models/stages/synthetic.py on the device, or resume its training."""
    before = context.folder / "small"
    more: dict[str, Any] = {"before": None if output == "small" else before, "log_every": 50, **training}
    config = synthetic.make_config(
        name, context.folder / "noise", context.folder / output, epochs=epochs, save_every=10_000, **more
    )
    torch.manual_seed(config.seed)
    stage = STAGES[name](config, context.device)
    trainer = Trainer(stage, config.training, config.folder, "this benchmark", config.seed)
    trainer.resume()
    losses, step = [], trainer._train_step

    def recorded(batch: Any) -> Any:
        result = step(batch)
        losses.append(result[0].clone())
        return result

    trainer._train_step = recorded  # type: ignore[method-assign]
    stage.end_training = lambda *_: None  # type: ignore[method-assign]
    trainer.run()
    content = torch.load(trainer.last, weights_only=True, map_location="cpu")
    graphed = trainer._graphed
    found = [float(loss) for loss in losses]
    return Run(found, content, graphed is not None and bool(graphed._graphs) and not graphed._fails)


def equal_states(a: Any, b: Any) -> bool:
    """Whether two parts of checkpoints hold the same bits."""
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(equal_states, a, b)) if isinstance(a, list | tuple) else a == b


def graphs(context: Context) -> Iterator[Row]:
    """Replayed steps against eager ones, and against themselves after an interruption."""
    synthetic.make_data(context.folder / "noise")
    graph: dict[str, Any] = {"cuda_graph": True if context.is_gpu else None}
    for name in synthetic.ORDER:
        train_small(context, name, "small", 1)
        for precision in ("fp32", "bf16") if context.is_gpu else ("fp32",):
            per_epoch = len(train_small(context, name, f"one {precision}", 1, precision=precision).losses)
            epochs = max(2, (12 if context.quick else GRAPH_STEPS) // per_epoch)
            more: dict[str, Any] = {"precision": precision}
            eager = train_small(context, name, f"eager {precision}", epochs, cuda_graph=False, **more)
            whole = train_small(context, name, f"whole {precision}", epochs, **graph, **more)
            off = far(np.array(whole.losses), np.array(eager.losses))
            same = equal_states(whole.content["model"], eager.content["model"])
            right = off < (LOSS_TOLERANCE if precision == "fp32" else 0.05)
            right = right and whole.replayed == context.is_gpu
            found = {"steps": len(whole.losses), "off": off, "same bits": same, "replayed": whole.replayed}
            yield check(f"{name} {precision}, replayed and eager", right, **found)
            if name == "sep_vqvae" and context.is_gpu:
                with patch("models.vqvae.side_by_side", lambda first, x, second, y: (first(x), second(y))):
                    turns = train_small(context, name, f"turns {precision}", epochs, **graph, **more)
                same = equal_states(whole.content["model"], turns.content["model"])
                yield check(f"{name} {precision}, halves side by side and in turn", same)
            train_small(context, name, f"parts {precision}", epochs // 2, **graph, **more)
            rest = train_small(context, name, f"parts {precision}", epochs, **graph, **more)
            right = whole.losses[-len(rest.losses) :] == rest.losses
            right = right and equal_states(whole.content["model"], rest.content["model"])
            yield check(f"{name} {precision}, resumed bit for bit", right)


# Times ------------------------------------------------------------------------------------------------------


def published_files(context: Context) -> dict[str, str]:
    """Checkpoints of the published sizes and data, made once."""
    files = {key: str(context.folder / f"{name}.pt") for key, name in (("vqvae", "memory"), ("gpt", "gpt"))}
    if all(Path(path).is_file() for path in files.values()):
        return files
    for name, version in (("data", "standard"), ("data_frames", "frames")):
        make_data(context.folder / name, 37 if context.quick else 300, version)
    return make_checkpoints(context.folder)


class Prepared(NamedTuple):
    """A trainer at a published size, and a batch of each kind of step."""

    trainer: Trainer
    batches: dict[str, Any]


def prepared(context: Context, name: str, overrides: Sequence[str]) -> Prepared:
    """A published config on random data."""
    size = read_config(ROOT / "configs" / f"{name}.yaml").training.batch_size
    size = max(1, size // 8) if context.quick else size
    fixed = [f"training.batch_size={size}", f"device={context.device}", "data.clips.hop=8"]
    config = configured(name, context.folder, published_files(context), [*fixed, *overrides])
    torch.manual_seed(0)
    stage = STAGES[config.stage](config, context.device)
    trainer = Trainer(stage, config.training, config.folder, "this benchmark", config.seed)
    stage.trainable.train()
    found: dict[str, Any] = {}
    for kind, batch in steps(trainer):
        if kind in found:
            break
        found[kind] = batch
    return Prepared(trainer, found)


def kernels(work: Callable[[], object], device: torch.device) -> tuple[int, float]:
    """Number of kernels of a piece of work, and the milliseconds that the GPU computes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        synchronise(device)
    found = [event for event in profiler.key_averages() if event.device_time_total > 0]
    return sum(event.count for event in found), sum(event.device_time_total for event in found) / 1e3


VARIANTS = (
    ("sep_vqvae", ("fp32", "tf32", "bf16"), ()),
    ("sep_vqvae", ("bf16",), ("training.channels_last=false",)),
    ("sep_vqvae_root", ("fp32", "bf16"), ()),
    ("sep_vqvae_root_mix", ("fp32", "bf16"), ()),
    ("cc_motion_gpt", ("fp32", "tf32", "bf16"), ()),
    ("actor_critic", ("fp32", "tf32", "bf16"), ()),
    ("cc_motion_gpt_music_trans", ("bf16",), ()),
)
COMPILED = (
    ("cc_motion_gpt", ("bf16",), ("training.compile=true",)),
    ("sep_vqvae", ("bf16",), ("training.compile=true",)),
)


def time_step(context: Context, trainer: Trainer, batch: Any, precision: str, flops: float) -> Row:
    """Milliseconds of a step, eager and replayed, and what they are made of; flops are counted if 0."""
    device, repeats = context.device, 20 if context.is_gpu else 1
    if not flops:
        with FlopCounterMode(display=False) as counter:
            trainer._update(batch)
        flops = float(counter.get_total_flops())
    best = milliseconds(lambda: trainer._update(batch), device, max(1, repeats // 2))
    row: Row = {"GFLOP": flops / 1e9, "eager ms": best}
    if context.is_gpu:
        row["waits"] = waits(lambda: trainer._update(batch))
        best = milliseconds(lambda: trainer._train_step(batch), device, repeats)
        count, busy = kernels(lambda: trainer._train_step(batch), device)
        graphed = trainer._graphed
        row["is replayed"] = graphed is not None and bool(graphed._graphs) and not graphed._fails
        row |= {"replayed ms": best, "kernels": count, "GPU busy": f"{busy / best:.0%}"}
    share = 1e3 * flops / best / peak(device, precision)
    return row | {"best ms": best, "TFLOP/s": flops / best / 1e9, "of peak": f"{share:.0%}"}


def step_times(context: Context) -> Iterator[Row]:
    """Each stage's step at the published size."""
    yield from time_variants(context, VARIANTS, 15)


def compiled(context: Context) -> Iterator[Row]:
    """The same by torch.compile, which takes a minute each, and a song by a compiled GPT."""
    if context.is_gpu:
        yield from time_songs(context, 1, [{"window": "hop", "precision": "bf16", "compile": True}], 60)
        yield from time_variants(context, COMPILED, 70)


def time_variants(context: Context, variants: Sequence[Any], seconds: float) -> Iterator[Row]:
    """Times of steps; those that take so many seconds to start are left out if it is too late."""
    flops: dict[str, float] = {}
    best: dict[tuple[str, str], float] = {}
    for name, precisions, more in variants:
        for precision in precisions if context.is_gpu else precisions[:1]:
            if context.late(seconds):
                print(f"  left out for time: {name} {precision} {' '.join(more)}", flush=True)
                continue
            trainer, batches = prepared(context, name, [f"training.precision={precision}", *more])
            for kind, batch in batches.items():
                label = f"{name} {kind}".strip()
                row = time_step(context, trainer, batch, precision, flops.get(label, 0.0))
                flops[label] = 1e9 * row["GFLOP"]
                best.setdefault((label, precision), row["best ms"])
                ratio: Row = {}
                if label in HALF_OF:
                    half = best.get((HALF_OF[label], precision), float("nan")) / 2
                    ratio = {"half a memory step ms": half, "ratio": half / row["best ms"], "target": 1}
                elif label in PUBLISHED:
                    published, target = PUBLISHED[label]
                    ratio = {"published ms": published, "ratio": published / row["best ms"], "target": target}
                yield show({"step": label, "precision": " ".join([precision, *more]), **row, **ratio})


def waits(work: Callable[[], object]) -> str:
    """What makes the processor wait for the GPU in a piece of work, or `no`."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def bare_step(trainer: Trainer, batches: dict[str, Any], device: torch.device) -> float:
    """Mean milliseconds of the kinds of steps, replayed where steps are."""
    times = []
    for batch in batches.values():
        for _ in range(5):
            trainer._train_step(batch)
        synchronise(device)
        start, number = time.perf_counter(), 20 if device.type == "cuda" else 1
        for _ in range(number):
            trainer._train_step(batch)
        synchronise(device)
        times.append(1e3 * (time.perf_counter() - start) / number)
    return statistics.mean(times)


def real_step(trainer: Trainer, number: int, device: torch.device) -> float:
    """Mean milliseconds of steps with the loader, over ends of epochs; a few first ones do not count."""
    done, start, first = 0, 0.0, 5
    for epoch in range(1, 10_000):
        for batch in trainer.stage.batches(epoch):
            if done == first:
                synchronise(device)
                start = time.perf_counter()
            trainer._train_step(batch)
            done += 1
            if done % 20 == 0:
                synchronise(device)  # as for a line in the log
            if done == first + number:
                synchronise(device)
                return 1e3 * (time.perf_counter() - start) / number
    raise AssertionError


def real_runs(context: Context) -> Iterator[Row]:
    """Steps with their loader against the bare step; the actor-critic's songs are composed once."""
    for name in ("sep_vqvae", "sep_vqvae_root", "sep_vqvae_root_mix", "cc_motion_gpt", "actor_critic"):
        for on_device in ("true", "false") if context.is_gpu and name != "actor_critic" else ("null",):
            if context.late(15):
                print(f"  left out for time: {name}, on_device {on_device}", flush=True)
                continue
            overrides = [f"data.on_device={on_device}", "training.num_workers=4"]
            overrides += ["turn=1"] if name == "actor_critic" else []  # as many steps of both networks
            trainer, batches = prepared(context, name, overrides)
            bare = bare_step(trainer, batches, context.device)
            if name == "actor_critic":
                trainer.stage.collector.collect = kept(trainer.stage.collector.collect)  # type: ignore[attr-defined]
            real = real_step(trainer, 4 if context.quick else REAL_STEPS, context.device)
            row = {"real run": name, "data.on_device": on_device, "bare ms": bare, "real ms": real}
            yield show(row | {"slower by": f"{real / bare - 1:.1%}"})


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called once."""
    results: list[Any] = []

    def once(*given: Any) -> Any:
        if not results:
            results.append(function(*given))
        return results[0]

    return once


@torch.no_grad()
def time_songs(context: Context, songs: int, ways: Sequence[Row], seconds: float) -> Iterator[Row]:
    """Songs by a GPT of the published size with random weights; arguments as of `time_variants`.

    Ways that name a `music_context` are those of a GPT behind a music transformer.
    """
    device = context.device
    torch.manual_seed(0)
    plain_gpt = MotionGPT(GPTConfig(), (512, 512), MUSIC_CHANNELS).eval().to(device)
    config, gpts = GPTConfig(music_transformer=MusicTransformerConfig()), [plain_gpt]
    first = Codes(torch.tensor([1]), torch.tensor([2]))
    length = 30 if context.quick else SONG if songs == 1 else SONGS_LENGTH
    expected: dict[str, list[Codes]] = {}
    for way in ways:
        if context.late(seconds):
            print(f"  left out for time: {songs} song(s), {way}", flush=True)
            continue
        if "music_context" in way and len(gpts) == 1:
            gpts.append(MotionGPT(config, (512, 512), 440, 8).eval().to(device))
        gpt = gpts["music_context" in way]
        steps_of_music = length + 2 * gpt.reach, gpt.music_channels
        generator = torch.Generator().manual_seed(1)
        prompts = [
            Prompt(torch.randn(steps_of_music, generator=generator), first, str(i)) for i in range(songs)
        ]
        forward: AcceleratedGPT = accelerated(gpt, GenerationConfig(**way))
        taken, made = [], []
        for _ in range(4 if context.is_gpu else 1):
            synchronise(device)
            start = time.perf_counter()
            made = generate(forward, prompts, GenerationConfig(**way), device)
            synchronise(device)
            taken.append(time.perf_counter() - start)
        plain = expected.setdefault(way["window"] + str(way.get("music_context")), made)
        equal = sum(same_codes(a, b.upper, b.lower) for a, b in zip(made, plain, strict=True))
        per_song, sung = min(taken) / songs, length / 7.5
        yield show(
            {
                "generation": f"{songs} song(s), {' '.join(str(v) for v in way.values() if v is not None)}",
                "replayed": forward.record is not None, "s per song": per_song, "first s": taken[0] / songs,
                "ms per code": 1e3 * min(taken) / length, "real time": f"{sung / per_song:.0f}x",
                "ratio": PUBLISHED_SONG * sung / 30 / per_song, "same as the first": f"{equal} of {songs}",
            }
        )  # fmt: skip


@torch.no_grad()
def generation(context: Context) -> Iterator[Row]:
    """A 30 s song, 40 songs of 20 s, and the decoding of ten minutes."""
    device = context.device
    for songs in (1, 2 if context.quick else 40):
        eager = (False,) if context.is_gpu and songs == 1 else ()
        ways = [
            {"window": window, "precision": precision, "cuda_graph": graph}
            for window in ("exact", "hop")
            for precision in ("fp32", "bf16")
            for graph in (*eager, None)
        ]
        if songs == 1:
            ways += [
                {"window": window, "precision": precision, "music_context": context_}
                for window, context_ in (("exact", "window"), ("hop", "song"))
                for precision in ("fp32", "bf16")
            ]
        yield from time_songs(context, songs, ways, 10)
    memory = ChoreographicMemory(MemoryConfig(), velocity=True).eval().to(device)
    codes = Codes(*torch.randint(512, (2, 100 if context.quick else 4500)))
    rotating = ChoreographicMemory(MemoryConfig(), velocity=True, rotations=True).eval().to(device)
    for what, decode in (("positions", memory.decode_dance), ("rotations", rotating.decode_motion)):
        taken = milliseconds(lambda decode=decode: decode(codes), device, 1)  # type: ignore[misc]
        yield show({"decoding": f"{len(codes.upper) / 7.5:.0f} s of dance, {what}", "s": taken / 1e3})


PARTS: dict[str, Callable[[Context], Iterator[Row]]] = {
    "machine": machine,
    "goldens": goldens,
    "processor": processor,
    "graphs": graphs,
    "generation": generation,
    "steps": step_times,
    "real": real_runs,
    "compiled": compiled,
}


def markdown(found: dict[str, list[Row]]) -> str:
    """All rows as Markdown tables."""
    text = []
    for part, rows in found.items():
        by_columns: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            by_columns.setdefault(tuple(row), []).append(row)
        text.append(f"## {part}\n")
        for columns, some in by_columns.items():
            lines = [columns, ["---"] * len(columns), *(row.values() for row in some)]
            cells = ([f"{c:.4g}" if isinstance(c, float) else str(c) for c in line] for line in lines)
            text += ["| " + " | ".join(line) + " |" for line in cells] + [""]
    return "\n".join(text)


def run(parts: Sequence[str], context: Context, out: Path) -> dict[str, list[Row]]:
    """Run the parts, and write what was found so far after each."""
    found: dict[str, list[Row]] = {}
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        print(f"{part}:", flush=True)
        start = time.perf_counter()
        rows = found[part] = []
        try:
            for row in PARTS[part](context):
                rows.append(row)
        except Exception as error:  # the other parts still say something
            traceback.print_exc()
            rows.append(show({"failed": type(error).__name__, "message": str(error).splitlines()[:1]}))
        if context.is_gpu:
            torch.cuda.empty_cache()
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)
        (out / "gpu.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
        (out / "gpu.md").write_text(markdown(found))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; the exit code is 1 if a check was wrong or a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--quick", action="store_true", help="small batches and short songs")
    args = parser.parse_args(arguments)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    set_up_arithmetic()
    print(f"default precision of training: {default_precision(device)}")
    with tempfile.TemporaryDirectory() as name:
        deadline = time.perf_counter() + 60 * args.minutes
        found = run(args.only, Context(device, Path(name), args.quick, deadline), args.out)
    wrong = [r for rows in found.values() for r in rows if r.get("right") == "NO" or "failed" in r]
    print(f"{len(wrong)} wrong or failed; {args.out / 'gpu.md'}")
    for row in wrong:
        show(row)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
