"""How long a training step takes at every published config's own size, and what share of the peak that is.

    python -m tests.benchmarks.training [--quick] [--repeats 3] [--only cc_motion_gpt ...]
                                        [--precision fp32 bf16] [--compile]

Weights and data are random: a step's time does not depend on them. FLOPs are counted by PyTorch, forward and
backward; the peak is that of square matrix products at the same precision, measured before each line. The
published code's seconds were measured on another machine, whose fp32 peak, that of a 3-tap convolution, is
known: they are scaled by it, for the stages of convolutions to the same peak here, else to that of products.
Of the rotation decoders no time is published: half a step of our memory stands in its place.
Where others use the machine too, `busy` (processor seconds per thread) is nearer the truth than `seconds`.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from datasets.sequences import (
    beats_path,
    features_path,
    motion_path,
    num_features,
    rotations_path,
    write_array,
    write_manifest,
)
from models.gpt import GPTConfig, MotionGPT
from models.stages.base import RunConfig
from models.stages.registry import STAGES, read_config
from models.vqvae import ChoreographicMemory, MemoryConfig
from tests.helpers import ROOT
from utils.training.checkpoints import save_checkpoint
from utils.training.trainer import Trainer

NUM_FEATURES = num_features("standard")
PEAK_THEN = (
    364e9  # FLOP/s of a 3-tap convolution in fp32 on the machine that the published code was measured on
)


class Target(NamedTuple):
    """Seconds of the published code's step, and how many times faster ours has to be, per precision."""

    seconds: float
    faster: dict[str, float]


TARGETS = {
    "sep_vqvae": Target(2.57, {"fp32": 1, "bf16": 1.6}),
    "sep_vqvae_root": Target(0.40, {"fp32": 3, "bf16": 3}),
    "cc_motion_gpt": Target(10.9, {"fp32": 1, "bf16": 3}),
    "actor_critic policy": Target(64.7, {"fp32": 3, "bf16": 8}),
    "actor_critic value": Target(32.7, {"fp32": 3, "bf16": 8}),
}
CONFIGS = (
    "sep_vqvae",
    "sep_vqvae_root",
    "sep_vqvae_root_mix",
    "cc_motion_gpt",
    "actor_critic",
    "cc_motion_gpt_music_trans",
)
HALF_OF = {"sep_vqvae_root_mix": "sep_vqvae"}


def make_data(root: Path, codes: int, version: str = "standard") -> None:
    """Noise: dances of that many codes, two of them for testing."""
    generator, frames, columns = np.random.default_rng(0), 8 * codes, num_features(version)
    names = [f"dance{i}" for i in range(3)]
    for name in names:
        joints = generator.normal(0, 0.002, (frames, 24, 3)).cumsum(0) + generator.normal(0, 0.3, (24, 3))
        write_array(motion_path(root, name), joints.astype(np.float32))
        still = np.tile(np.eye(3, dtype=np.float32), (frames, 24, 1, 1))
        write_array(rotations_path(root, name), still)
        write_array(features_path(root, name), generator.normal(size=(codes, columns)).astype(np.float32))
        write_array(beats_path(root, name), np.arange(frames) % 30 == 0)
    content = {
        "name": "noise",
        "skeleton": "smpl_24",
        "fps": 60,
        "music": {"version": version, "fps": 7.5, "columns": columns},
        "splits": {"train": names[2:], "test": names[:2]},
        "sequences": {name: {"frames": frames, "song": name, "rotations": True} for name in names},
        "songs": {name: {"features": codes, "beats": frames} for name in names},
        "left_out": {},
    }
    write_manifest(root, content)


def make_checkpoints(folder: Path) -> dict[str, str]:
    """Files of an untrained memory and GPT of the published sizes."""
    memory = ChoreographicMemory(MemoryConfig(), velocity=True)
    for half in (memory.upper, memory.lower):
        half.quantizer.codebook.normal_()
        half.quantizer.restore()
    gpt = MotionGPT(GPTConfig(), memory.num_codes, NUM_FEATURES)
    files = {"vqvae": folder / "memory.pt", "gpt": folder / "gpt.pt"}
    for path, stage, model, more in (
        (files["vqvae"], "sep_vqvae_root", memory, {}),
        (files["gpt"], "motion_gpt", gpt, {"music": "standard"}),
    ):
        architecture = {**model.architecture(), **more}
        content = {"stage": stage, "architecture": architecture, "model": model.state_dict(), "epoch": 0}
        save_checkpoint(content, path)
    return {key: str(path) for key, path in files.items()}


def configured(name: str, folder: Path, files: dict[str, str], overrides: list[str]) -> RunConfig:
    """A published config on that data."""
    own = [] if name == "sep_vqvae" else ["vqvae", "gpt"] if name == "actor_critic" else ["vqvae"]
    data = folder / ("data_frames" if name.endswith("music_trans") else "data")
    fixed = [f"data.root={data}", f"output={folder / 'runs'}", "training.num_workers=0"]
    fixed += [f"{key}={files[key]}" for key in own]
    return read_config(ROOT / "configs" / f"{name}.yaml", [*fixed, *overrides])


def steps(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    """Batches and their kinds, again and again; the actor-critic's songs are composed once."""
    for batch in itertools.cycle(trainer.stage.batches(1)):
        if trainer.stage.name == "actor_critic":
            yield "policy", batch._replace(updates_policy=True)
            yield "value", batch._replace(updates_policy=False)
        else:
            yield "", batch


def synchronise(device: torch.device) -> None:
    """Wait for the work that was sent to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_peak(device: torch.device, precision: str, seconds: float = 1.0) -> float:
    """Return the FLOP/s of square products on the device, the best in about that many seconds."""
    size, repeats = (4096, 10) if device.type == "cuda" else (768, 2)
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    b, best = torch.ones_like(a), 0.0
    a @ b
    synchronise(device)
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        for _ in range(repeats):
            a @ b
        synchronise(device)
        best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
    return best


@torch.no_grad()
def convolution_peak(device: torch.device, seconds: float = 1.0) -> float:
    """FLOP/s of a 3-tap convolution in fp32 at the memory's size, the best in about that many seconds."""
    x, weight = torch.ones(32, 512, 240, device=device), torch.ones(512, 512, 3, device=device)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.conv1d(x, weight, padding=1)
        synchronise(device)
        best = max(best, 2 * x.numel() * 512 * 3 / (time.perf_counter() - start))
    return best


class Measured(NamedTuple):
    """A kind of step: median seconds, processor seconds per thread, FLOPs."""

    seconds: float
    busy: float
    flops: float


def measure(config: RunConfig, device: torch.device, repeats: int) -> dict[str, Measured]:
    """What each kind of step takes; in the first of each, which is not timed, FLOPs are counted."""
    stage = STAGES[config.stage](config, device)
    trainer = Trainer(stage, config.training, config.folder, "", config.seed)
    stage.trainable.train()
    flops: dict[str, float] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for kind, batch in steps(trainer):
        if kind not in flops:
            with FlopCounterMode(display=False) as counter:
                trainer._train_step(batch)
            flops[kind] = float(counter.get_total_flops())
            continue
        start, busy = time.perf_counter(), time.process_time()
        trainer._train_step(batch)
        synchronise(device)
        taken = time.perf_counter() - start, (time.process_time() - busy) / torch.get_num_threads()
        times.setdefault(kind, []).append(taken)
        kinds = 2 if config.stage == "actor_critic" else 1
        if len(times) == kinds and min(map(len, times.values())) >= repeats:
            break
    return {
        kind: Measured(*map(statistics.median, zip(*taken, strict=True)), flops[kind])
        for kind, taken in times.items()
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an eighth of each batch, to try it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONFIGS, default=CONFIGS)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; median of {args.repeats}")
    print(
        f"{'step':<25} {'':>5} {'batch':>5} {'seconds':>8} {'busy':>8} {'GFLOP':>7} {'GFLOP/s':>8} "
        f"{'peak':>7} {'share':>6} {'published':>10} {'ratio':>6} {'target':>6}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # 2 songs of this many codes are as many windows of 30 as a batch of the actor-critic holds
        make_data(folder / "data", 37 if args.quick else 93)
        make_data(folder / "data_frames", 37 if args.quick else 93, "frames")
        files, known = make_checkpoints(folder), dict[tuple[str, str], float]()
        for config_name in args.only:
            for precision in args.precision:
                overrides = [f"training.precision={precision}", f"training.compile={args.compile}"]
                size = read_config(ROOT / "configs" / f"{config_name}.yaml").training.batch_size
                size = max(1, size // 8) if args.quick else size
                overrides += [f"training.batch_size={size}", f"device={device}", "data.clips.hop=8"]
                peak = matrix_peak(device, precision, 1.0)
                convolves = config_name.startswith("sep_vqvae")
                now = convolution_peak(device) if convolves else matrix_peak(device, "fp32", 1.0)
                config = configured(config_name, folder, files, overrides)
                for kind, (seconds, busy, flops) in measure(config, device, args.repeats).items():
                    label = f"{config_name} {kind}".strip()
                    known[label, precision] = seconds
                    rate, compared = flops / seconds, ""
                    if label in HALF_OF:
                        then = known.get((HALF_OF[label], precision), float("nan")) / 2
                        compared = f"{then:10.2f} {then / seconds:6.2f} {1:6.1f}"
                    elif label in TARGETS:
                        then = TARGETS[label].seconds * PEAK_THEN / now / (8 if args.quick else 1)
                        faster = TARGETS[label].faster[precision]
                        compared = f"{then:10.2f} {then / seconds:6.2f} {faster:6.1f}"
                    print(
                        f"{label:<25} {precision:>5} {size:5} {seconds:8.3f} {busy:8.3f} "
                        f"{flops / 1e9:7.0f} {rate / 1e9:8.0f} {peak / 1e9:7.0f} {rate / peak:6.1%} "
                        f"{compared}".rstrip(),
                        flush=True,
                    )
    print("seconds: of ours; published: its seconds scaled to this machine; ratio: published / ours")


if __name__ == "__main__":
    main()
