"""The soak's own parts: processes are judged rightly, and every mutation changes its file by a fixed seed."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import forked
from tests.benchmarks.soak import BYTES, Case, change_table, mutate, outcome
from utils.training.checkpoints import load_checkpoint, save_checkpoint


def fail():
    raise TypeError("boom")


def hang():
    time.sleep(60)
    return 0


def allocate():
    np.ones(2_200_000_000, np.uint8)
    return 0


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (lambda: 0, "read"),
        (lambda: 2, "refused"),
        (fail, "FAILED: traceback"),
        (hang, "FAILED: hangs"),
        (allocate, "FAILED: more than 2 GB"),
        (lambda: os.abort(), "FAILED: signal 6"),  # type: ignore[return-value]
        (lambda: 3, "FAILED: status 3"),
    ],
)
def test_processes_are_judged(command, wanted, tmp_path):
    ended = forked.run(command, tmp_path / "log", 1.0 if command is hang else 60)
    case = Case("export", Path("x"), "", command)
    assert outcome(case, ended, []) == wanted
    if wanted == "read":
        assert outcome(case, ended, [Path("x")]) == "FAILED: damages what was there"


@pytest.mark.parametrize("name", ["a.wav", "a.npy", "a.npz", "a.json", "a.yaml", "a.pt"])
def test_files_are_mutated_by_the_seed(name, tmp_path):
    contents = []
    for folder in ("one", "two"):
        path = tmp_path / folder / name
        path.parent.mkdir()
        for seed in range(12):
            write(path)
            before = path.read_bytes()
            mutation = mutate(path, np.random.default_rng(seed))
            contents.append((folder, seed, mutation, path.read_bytes()))
            assert mutation in {change.__name__ for change in BYTES} | {
                "change_array", "change_table", "change_checkpoint",
            }  # fmt: skip
        assert any(content != before for _, _, _, content in contents)
    ways = [way for _, _, way, _ in contents]
    assert ways[:12] == ways[12:]
    assert len(set(ways)) > 2
    if name != "a.pt":  # torch's archives have a time in them
        assert [c for *_, c in contents[:12]] == [c for *_, c in contents[12:]]


def write(path):
    if path.suffix == ".npy":
        np.save(path, np.arange(60.0).reshape(5, 4, 3))
    elif path.suffix == ".npz":
        np.savez(path, joints=np.arange(60.0).reshape(5, 4, 3), fps=60)
    elif path.suffix == ".pt":
        save_checkpoint(
            {"stage": "x", "epoch": 1, "model": {"a": torch.ones(2, 3), "b": torch.zeros(4)}}, path
        )
        load_checkpoint(path, "this test")
    elif path.suffix in (".json", ".yaml"):
        path.write_text(json.dumps({"a": {"b": [1, 2, 3]}, "c": 0.5}))
    else:
        path.write_bytes(bytes(range(256)) * 4)


def test_one_value_of_a_table_is_changed():
    table = {"a": {"b": [1, 2, 3]}, "c": 0.5}
    changed = [change_table(table, np.random.default_rng(seed)) for seed in range(50)]
    assert table == {"a": {"b": [1, 2, 3]}, "c": 0.5}
    assert sum(other != table for other in changed) > 45
    assert len({json.dumps(other) for other in changed}) > 20
