"""What is printed never decides what is kept: other encodings, and pipes that nobody reads to the end."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import ROOT
from tests.utils.metrics.motions import smooth_dance

COMMANDS = (
    "main.py", "prepare_aistpp_data.py", "extract_aist_features.py", "utils/metrics/__main__.py",
    "utils/export/__main__.py", "utils/render/player.py", "models/published/__main__.py",
)  # fmt: skip


@pytest.fixture
def dances(tmp_path):
    folder = tmp_path / "dances"
    folder.mkdir()
    for name in ("tänze 音楽", "b"):
        np.savez(folder / f"{name}.npz", joints=smooth_dance(seconds=1))
    return folder


def metrics(dances, *more: str) -> list[str]:
    return [sys.executable, "-m", "utils.metrics", str(dances), "--no-plots", *more]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:strict", "latin-1"])
def test_an_encoding_that_lacks_signs(dances, tmp_path, encoding):
    out = tmp_path / "öut"
    done = subprocess.run(
        metrics(dances, "--out", str(out)),
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["dances.csv", "metrics.json", "table.md"]
    assert "tänze 音楽" in (out / "dances.csv").read_text(encoding="utf-8")
    assert b"written to" in done.stdout


def test_an_error_message_in_an_encoding_that_lacks_signs(tmp_path):
    done = subprocess.run(
        metrics(tmp_path / "音楽"),
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert b"\\u97f3\\u697d is missing" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("both", [False, True])
def test_a_pipe_that_nobody_reads(dances, tmp_path, both, unbuffered):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            metrics(dances, "--out", str(tmp_path / "out")),
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=write, stderr=write if both else subprocess.PIPE, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 0
    assert not both or done.stderr is None
    assert both or b"BrokenPipe" not in done.stderr
    assert both or b"Traceback" not in done.stderr
    assert (tmp_path / "out" / "metrics.json").is_file()


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_it(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    body = text[text.index("def main(") :]
    assert "    tolerant_output()\n" in body.split("\n\n\n")[0]
