"""Two trainings of one run folder, and run folders that cannot be written: one line, nothing lost."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
import torch

import main
from tests.helpers import ROOT
from tests.models.stages import synthetic
from utils.config import write_yaml
from utils.training import checkpoints
from utils.training.checkpoints import run_folder

HOLDER = """
import sys
from pathlib import Path
from utils.training.checkpoints import run_folder

with run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the run folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_until_the_first_ends(holder, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=rf"is in use: process {holder.pid} on .* trains there") as error:
        with run_folder(folder):
            raise AssertionError("both hold the folder")
    assert "\n" not in str(error.value)
    assert "name=..." in str(error.value)
    holder.kill()  # the lock ends with the process, however that ends
    holder.wait()
    with run_folder(folder):
        assert f"process {os.getpid()} on" in (folder / ".lock").read_text()


def test_the_command_line_refuses_it(tmp_path, capsys):
    config = synthetic.make_config("sep_vqvae", synthetic.make_data(tmp_path / "data"), tmp_path, epochs=1)
    write_yaml(config, tmp_path / "config.yaml")
    command = [sys.executable, "-c", HOLDER, str(config.folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert main.main(["--config", str(tmp_path / "config.yaml"), "--train"]) == 2
        assert f"error: {config.folder} is in use" in capsys.readouterr().err
        process.communicate("")
    assert main.main(["--config", str(tmp_path / "config.yaml"), "--train"]) == 0


def test_without_locks_it_trains_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with run_folder(tmp_path / "run"):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(code, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with (
        pytest.raises(ValueError, match=r"run cannot be written: ") as error,
        run_folder(folder),
    ):
        raise OSError(code, os.strerror(code), str(folder / "ckpt" / "last.pt"))
    for part in (str(folder), os.strerror(code), "output=..."):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_other_errors_are_not_taken_for_it(tmp_path):
    for error in (OSError(errno.EACCES, "Permission denied", "/data/song.npy"), OSError(errno.EIO, "I/O")):
        with pytest.raises(OSError, match=r"Permission denied|I/O"), run_folder(tmp_path / "run"):
            raise error


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_a_full_disk_leaves_the_last_checkpoint(limit, tmp_path):
    """A limit of the file size stands in for a full disk: a write fails in the same way."""
    path = tmp_path / "run" / "ckpt" / "last.pt"
    checkpoints.save_checkpoint({"stage": "sep_vqvae", "model": {"x": torch.ones(3)}}, path)
    before = path.read_bytes()
    script = f"""
import resource, signal, sys, torch
from pathlib import Path
from utils.training.checkpoints import run_folder, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with run_folder(Path({str(tmp_path / "run")!r})):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    save_checkpoint({{"stage": "sep_vqvae", "model": {{"x": torch.ones(100_000)}}}}, Path({str(path)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ValueError: the run folder {tmp_path / 'run'} cannot be written: ")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]
