"""Damaged files through every command: each is read, or refused in one line, and nothing else is touched.

    python -m tests.benchmarks.soak [--files 300] [--seed 0] [--seconds 120] [--folder DIR]

Files of every kind that a command reads are mutated (flipped bits, truncation, concatenation, headers of
another length, arrays of another type or shape, YAML and JSON with values of another type, checkpoints with
exchanged tensors) and given to preparation, --dance, metrics, export, --eval and, body models, to the export
again, in turn. A case fails if it ends in a traceback or a signal, takes longer than --seconds, needs more
than 2 GB, or changes a file that was there before. The exit status is 1 if any fails; the files of failed
cases are kept in --folder.
"""

import argparse
import json
import logging
import os
import pickle
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from tqdm import tqdm

import main as stages
import prepare_aistpp_data
import utils.export.__main__ as exporting
import utils.metrics.__main__ as scoring
from datasets.sequences import PreparedData
from tests.benchmarks.forked import CRASHED, Ended, run
from tests.body_models import chumpy_pickle, save_npz
from tests.datasets.aistpp.fakes import body, motion
from tests.models.inference.songs import RATE, encode, sound
from tests.models.stages import synthetic
from utils.config import write_yaml
from utils.music.audio import write_wav
from utils.training.checkpoints import save_checkpoint

MOST_BYTES = 2_000_000_000
Generator = np.random.Generator


class Case(NamedTuple):
    """A mutated file and the command that reads it.

    Attributes:
        target: what reads it: prepare, dance, metrics, export, eval or model.
        file: the file.
        mutation: what was done to it.
        command: runs the command; returns its exit status.
    """

    target: str
    file: Path
    mutation: str
    command: Callable[[], int]


def flip_bits(content: bytes, rng: Generator) -> bytes:
    """The content with 1 to 64 flipped bits."""
    flipped = bytearray(content)
    for place in rng.integers(len(flipped), size=2 ** rng.integers(7)):
        flipped[place] ^= 1 << rng.integers(8)
    return bytes(flipped)


def truncate(content: bytes, rng: Generator) -> bytes:
    """The beginning of the content."""
    return content[: rng.integers(len(content))]


def concatenate(content: bytes, rng: Generator) -> bytes:
    """The content twice, or with random bytes before or behind it."""
    junk = rng.bytes(int(rng.integers(1, 5000)))
    return [content + content, content + junk, junk + content][rng.integers(3)]


def change_header(content: bytes, rng: Generator) -> bytes:
    """The content with bytes cut out of, or put into, its first 200."""
    place, number = (int(n) for n in rng.integers(1, 100, size=2))
    more = rng.bytes(number) if rng.random() < 0.5 else b""
    return content[:place] + more + content[place + (0 if more else number) :]


def change_array(array: np.ndarray, rng: Generator) -> np.ndarray:
    """An array of another type, shape, size or content."""
    kinds: list[Callable[[], np.ndarray]] = [
        lambda: array.astype(rng.choice(["f2", "f8", "i4", "u1", "c8", "S8", "?"])),
        lambda: array[..., : rng.integers(array.shape[-1] + 1)] if array.ndim else array[None],
        lambda: array[: rng.integers(len(array) + 1)] if array.ndim else array[None],
        lambda: array.reshape(-1),
        lambda: np.moveaxis(array, -1, 0) if array.ndim else array,
        lambda: np.where(rng.random(array.shape) < 0.01, np.nan, array),
        lambda: array * rng.choice([0.0, -1.0, 1e-9, 1e3, 1e30, np.inf]),
        lambda: np.broadcast_to(array, (2, *array.shape)).copy(),
    ]
    with np.errstate(all="ignore"):
        return kinds[rng.integers(len(kinds))]()


def change_value(value: Any, rng: Generator) -> Any:
    """A value of a YAML or JSON file of another type or size, or of nothing at all."""
    others = [
        None,
        -1,
        0,
        1e99,
        "x",
        "",
        [],
        {},
        [value],
        {"x": value},
        True,
        float("nan"),
        "é" * 300,
        "../..",
    ]
    return others[rng.integers(len(others))]


def change_table(table: Any, rng: Generator) -> Any:
    """A tree of dicts and lists with one value changed, dropped or added."""
    if isinstance(table, dict) and table and rng.random() < 0.9:
        key = list(table)[rng.integers(len(table))]
        if rng.random() < 0.15:
            return {k: v for k, v in table.items() if k != key}
        return {**table, key: change_table(table[key], rng)}
    if isinstance(table, list) and table and rng.random() < 0.7:
        place = int(rng.integers(len(table)))
        return [*table[:place], change_table(table[place], rng), *table[place + 1 :]]
    return change_value(table, rng)


def change_checkpoint(path: Path, rng: Generator) -> None:
    """Exchange, reshape or drop tensors of a checkpoint, or change its other entries."""
    content = torch.load(path, weights_only=True)
    model = content["model"]
    a, b = (list(model)[i] for i in rng.integers(len(model), size=2))
    kind = rng.integers(5)
    if kind == 0:
        model[a], model[b] = model[b], model[a]
    elif kind == 1:
        model[a] = model[a].reshape(-1)[: rng.integers(model[a].numel() + 1)]
    elif kind == 2:
        del model[a]
    elif kind == 3:
        model[a] = torch.full_like(model[a], float("nan")) if model[a].is_floating_point() else model[b]
    else:
        rest = {key: value for key, value in content.items() if key not in ("model", "optimizer", "random")}
        key = list(rest)[rng.integers(len(rest))]
        content[key] = change_table(rest[key], rng)
    content.pop("format", None)
    save_checkpoint(content, path)


BYTES = (flip_bits, truncate, concatenate, change_header)


def mutate(path: Path, rng: Generator) -> str:
    """Mutate a file in a way that fits its kind; return the name of the way."""
    special = {".npy", ".npz", ".pkl", ".json", ".yaml", ".pt"}
    plain = path.suffix in special and b"chumpy" not in path.read_bytes()  # its classes are not to be had
    if not plain or rng.random() < 0.5:
        change = BYTES[rng.integers(len(BYTES))]
        path.write_bytes(change(path.read_bytes(), rng))
        return change.__name__
    if path.suffix == ".pt":
        change_checkpoint(path, rng)
        return change_checkpoint.__name__
    if path.suffix in (".json", ".yaml"):
        read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
        path.write_text(write(change_table(read(path.read_text()), rng)))
        return change_table.__name__
    if path.suffix == ".npy":
        np.save(path, change_array(np.load(path), rng))
    else:
        is_pickle = path.suffix == ".pkl"
        arrays = pickle.loads(path.read_bytes()) if is_pickle else dict(np.load(path))
        key = list(arrays)[rng.integers(len(arrays))]
        arrays[key] = change_array(np.asarray(arrays[key]), rng)
        if is_pickle:
            path.write_bytes(pickle.dumps(arrays))
        else:
            np.savez(path, **arrays)
    return change_array.__name__


class Workplace:
    """Whole files of all kinds, and commands that read them; made once."""

    def __init__(self, root: Path) -> None:
        self.root, self.base, self.mutate = root, root / "base", mutate
        self.data, runs = self.base / "data", self.base / "runs"
        synthetic.make_data(self.data)
        synthetic.train_all(self.data, runs, epochs=1)
        self.config = self.base / "config.yaml"
        write_yaml(synthetic.make_config("actor_critic", self.data, runs), self.config)
        self.weights = {
            key: runs / name / "ckpt" / "last.pt"
            for key, name in (
                ("vqvae", "sep_vqvae_root"), ("gpt", "motion_gpt"), ("checkpoint", "actor_critic"),
            )
        }  # fmt: skip
        self.dances = self._dances(self.base / "dances")
        self.songs = self._songs(self.base / "songs")
        self.raw = self._raw(self.base / "raw")
        self.models = self._models(self.base / "models")

    def _dances(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True)
        np.save(folder / "a.npy", body(120).astype(np.float32))
        beats, codes = np.arange(10, 120, 30), np.zeros((15, 2), np.int64)
        np.savez(folder / "b.npz", joints=body(120, seed=1), music_beats=beats, fps=60, codes=codes)
        (folder / "c.pkl").write_bytes(pickle.dumps(motion(120)))
        return sorted(folder.iterdir())

    def _songs(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True)
        write_wav(folder / "a.wav", sound(3.0), RATE)
        for name, codec in (("b.mp3", "libmp3lame"), ("c.m4a", "aac")):
            encode(folder / name, sound(3.0), codec)
        return sorted(folder.iterdir())

    def _models(self, folder: Path) -> list[Path]:
        folder.mkdir(parents=True)
        (folder / "SMPL_MALE.pkl").write_bytes(chumpy_pickle())
        return [save_npz(folder / "SMPL_MALE.npz"), folder / "SMPL_MALE.pkl"]

    def _raw(self, folder: Path) -> Path:
        for name in ("motions", "songs", "splits"):
            (folder / name).mkdir(parents=True)
        for seed, name in enumerate(("one", "two")):
            np.save(folder / "motions" / f"{name}.npy", body(120, seed=seed))
        np.savez(folder / "motions" / "three.npz", joints=body(61, 30), fps=30)
        write_wav(folder / "songs" / "click.wav", sound(3.0), RATE)
        (folder / "songs.json").write_text(json.dumps(dict.fromkeys(("one", "two", "three"), "click")))
        beats = {"click": {"frames": 180, "beats": [10, 40, 70, 100]}, "other": [0.5, 1.0, 1.5]}
        (folder / "beats.json").write_text(json.dumps(beats))
        (folder / "splits" / "train.txt").write_text("one\nthree\n")
        (folder / "splits" / "test.txt").write_text("two\n")
        return folder

    def check(self, seconds: float) -> None:
        """Check that every command reads whole files.

        Raises:
            AssertionError: with what it printed, if one does not.
        """
        self.mutate = lambda path, rng: "nothing"
        for target in TARGETS:
            own = self.root / f"whole_{target}"
            ended = run(self.case(target, own, np.random.default_rng(0)).command, own / "log.txt", seconds)
            assert ended.status == 0, f"{target}: {ended.printed}"
            shutil.rmtree(own)
        self.mutate = mutate

    def case(self, target: str, place: Path, rng: Generator) -> Case:
        """A mutated file of a command, in a folder of its own."""
        place.mkdir(parents=True)
        return getattr(self, f"_{target}")(place, rng)

    def _prepare(self, place: Path, rng: Generator) -> Case:
        raw, out = place / "raw", place / "kept" / "out"
        shutil.copytree(self.raw, raw)
        command = ["--adapter", str(raw), "--no-songs", "--beats", str(raw / "beats.json"), "--workers", "1"]
        command += ["--out", str(out)]
        names = ("motions/one.npy", "motions/three.npz", "songs/click.wav", "songs.json", "beats.json",
                 "splits/train.txt")  # fmt: skip
        file = raw / names[rng.integers(len(names))]
        mutation = self.mutate(file, rng)
        return Case("prepare", file, mutation, lambda: prepare_aistpp_data.main(command))

    def _dance(self, place: Path, rng: Generator) -> Case:
        chosen = rng.random()
        song, config, weights = self.songs[0], self.config, dict(self.weights)
        if chosen < 0.6:
            file = song = self._copy(self.songs[rng.integers(len(self.songs))], place)
        elif chosen < 0.8:
            file = config = self._copy(self.config, place)
        else:
            key = list(weights)[rng.integers(len(weights))]
            file = weights[key] = self._copy(weights[key], place)
        mutation = self.mutate(file, rng)
        formats = "dance.formats=[bvh,glb,smpl,html]"
        given = [f"{key}={path}" for key, path in weights.items()]
        command = ["--config", str(config), "--dance", str(song), *given]
        command += ["generation.first_codes=[1,2]", formats]
        command += ["--out", str(place / "out")]
        return Case("dance", file, mutation, lambda: stages.main(command))

    def _metrics(self, place: Path, rng: Generator) -> Case:
        folder = place / "dances"
        shutil.copytree(self.base / "dances", folder)
        beats = self._copy(self.raw / "beats.json", place)
        files = [*sorted(folder.iterdir()), beats]
        file = files[rng.integers(len(files))]
        mutation = self.mutate(file, rng)
        command = [str(folder), "--music", str(beats), "--no-plots", "--out", str(place / "out")]
        command += ["--skip-bad"] if rng.random() < 0.5 else []
        return Case("metrics", file, mutation, lambda: scoring.main(command))

    def _export(self, place: Path, rng: Generator) -> Case:
        file = self._copy(self.dances[rng.integers(len(self.dances))], place)
        mutation = self.mutate(file, rng)
        command = [str(file), "--bvh", "--glb", "--smpl", "--html", "--footlock", "--out", str(place / "out")]
        return Case("export", file, mutation, lambda: exporting.main(command))

    def _eval(self, place: Path, rng: Generator) -> Case:
        config, weights, data = self.config, dict(self.weights), self.data
        chosen = rng.random()
        if chosen < 0.4:
            key = list(weights)[rng.integers(len(weights))]
            file = weights[key] = self._copy(weights[key], place)
        elif chosen < 0.7:
            file = config = self._copy(self.config, place)
        else:
            data = place / "data"
            shutil.copytree(self.data, data)
            files = sorted(path for path in data.rglob("*.*") if path.is_file())
            file = files[rng.integers(len(files))] if rng.random() < 0.5 else data / "manifest.json"
        mutation = self.mutate(file, rng)
        given = [f"{key}={path}" for key, path in weights.items()]
        command = ["--config", str(config), "--eval", *given, f"output={place / 'runs'}", f"data.root={data}"]
        return Case("eval", file, mutation, lambda: stages.main(command))

    def _model(self, place: Path, rng: Generator) -> Case:
        file = self._copy(self.models[rng.integers(len(self.models))], place)
        mutation = self.mutate(file, rng)
        command = [str(self.dances[0]), "--glb", "--body-model", str(file), "--out", str(place / "out")]
        return Case("model", file, mutation, lambda: exporting.main(command))

    def _copy(self, file: Path, place: Path) -> Path:
        return Path(shutil.copy(file, place / file.name))


TARGETS = ("prepare", "dance", "metrics", "export", "eval", "model")


def digests(*folders: Path) -> dict[Path, bytes]:
    """Hash of every file, by its path."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: blake2b(path.read_bytes(), digest_size=16).digest() for path in files}


def outcome(case: Case, ended: Ended, damaged: list[Path]) -> str:
    """`read`, `refused`, or what must not be."""
    if ended.timed_out:
        return "FAILED: hangs"
    if ended.status == CRASHED or "Traceback (most recent call last)" in ended.printed:
        return "FAILED: traceback"
    if ended.status < 0:
        return f"FAILED: signal {-ended.status}"
    if ended.peak > MOST_BYTES:
        return "FAILED: more than 2 GB"
    if damaged:
        return "FAILED: damages what was there"
    if ended.status == 0:
        return "read"
    return "refused" if ended.status in (1, 2) else f"FAILED: status {ended.status}"


def soak(files: int, seed: int, seconds: float, root: Path) -> Counter[tuple[str, str]]:
    """Run that many cases; return how often each command had each outcome."""
    place = Workplace(root)
    prepared = root / "prepared"
    command = ["--adapter", str(place.raw), "--no-songs", "--workers", "1", "--out", str(prepared)]
    log = root / "log.txt"
    assert run(lambda: prepare_aistpp_data.main(command), log, 600).status == 0, log.read_text()
    place.check(seconds)
    before, counts = digests(place.base), Counter[tuple[str, str]]()
    for number in tqdm(range(files), "files"):
        target = TARGETS[number % len(TARGETS)]
        rng = np.random.default_rng([seed, number, zlib.crc32(target.encode())])
        own = root / f"{number:04d}_{target}"
        case = place.case(target, own, rng)
        kept = own / "kept"
        if target == "prepare":
            shutil.copytree(prepared, kept / "out", dirs_exist_ok=True)
        given = digests(kept, own / "raw", own / "dances") | {case.file: case.file.read_bytes()}
        ended = run(case.command, own / "log.txt", seconds)
        after = digests(place.base)
        damaged = [path for path in before if before[path] != after.get(path)]
        damaged += _damaged(case, given, kept)
        result = outcome(case, ended, damaged)
        counts[target, result] += 1
        if result.startswith("FAILED"):
            tqdm.write(f"{result}: {own.name}, {case.file.name} by {case.mutation}: {_last(ended.printed)}")
        else:
            shutil.rmtree(own)
    return counts


def _damaged(case: Case, given: dict[Path, bytes], kept: Path) -> list[Path]:
    """Files that the command was given and changed, and prepared dances that it lost."""
    lost = [case.file] if not case.file.is_file() or case.file.read_bytes() != given[case.file] else []
    out = kept / "out"
    if case.target == "prepare" and (out / "manifest.json").is_file():
        data = PreparedData(out)
        for name in data.names("all"):
            data.sequence(name)  # raises where a file is half-written
    elif case.target == "prepare":
        lost.append(out / "manifest.json")
    return lost


def _last(printed: str) -> str:
    lines = printed.strip().splitlines()
    return lines[-1][:300] if lines else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 1 if a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120, help="that a case may take")
    parser.add_argument("--folder", type=Path, help="where failed cases are kept (a temporary folder)")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    root = options.folder or Path(tempfile.mkdtemp(prefix="soak_"))
    root.mkdir(parents=True, exist_ok=True)
    counts = soak(options.files, options.seed, options.seconds, root)
    print(f"{options.files} files, seed {options.seed}")
    for (target, result), number in sorted(counts.items()):
        print(f"{target:8} {result:32} {number}")
    failed = sum(number for (_, result), number in counts.items() if result.startswith("FAILED"))
    print(f"failed: {failed}" + (f", in {root}" if failed else ""))
    if not failed and options.folder is None:
        shutil.rmtree(root)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
