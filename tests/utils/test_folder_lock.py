"""One process at a time holds a folder; what a killed one left does not block; nothing stays behind."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from datasets.aistpp.preparation import reserved
from prepare_aistpp_data import main
from tests.helpers import ROOT
from utils.folder_lock import LOCK, folder_lock

HOLDER = """
import sys
from pathlib import Path
from datasets.aistpp.preparation import reserved
with reserved(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that prepares data in the folder `out`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_preparation_is_refused_until_the_first_ends(holder, tmp_path, capsys):
    out = tmp_path / "out"
    unfinished = out / "motion" / ".x.npy.1.tmp"
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"half")
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").write_bytes(b"")
    arguments = ["--songs", str(tmp_path / "songs"), "--out", str(out), "--workers", "1"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"error: {out} is in use: process {holder.pid} on " in error
    assert error.count("\n") == 1
    assert "(--out DIR)" in error
    assert unfinished.exists()  # the other's temporary file is not swept
    assert main(["--sample", "--out", str(out)]) == 1
    assert "prepares data there" in capsys.readouterr().err
    holder.kill()
    holder.wait()
    assert (out / LOCK).exists()
    with reserved(out):
        assert (out / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (out / LOCK).exists()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    lockf, calls = fcntl.lockf, []

    def removed_first(file, flags):
        lockf(file, flags)
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(fcntl, "lockf", removed_first)
    with folder_lock(tmp_path, "works", ""):
        assert (tmp_path / LOCK).read_text().startswith("process")
    assert len(calls) == 2


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with folder_lock(tmp_path, "works", ""):
        pass
    assert "cannot be locked (No locks available): a second process that works there" in caplog.text


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*out: Not a directory. What is already prepared stays"):
        with reserved(tmp_path / "file" / "out"):
            raise AssertionError("entered")
