"""Disks that are full or too small: what is prepared stays."""

import re
import resource
import shutil
import signal
import subprocess

import pytest

from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import motion, snapshot, write_motion

BAD = "gWA_sFM_cAll_d25_mBR0_ch09"
pytestmark = pytest.mark.usefixtures("quick_music")


def test_a_full_disk_ends_the_run_and_it_goes_on_with_room(source, tmp_path, capsys):
    write_motion(source, BAD, motion(1000))
    out = tmp_path / "out"
    arguments = ["--source", str(source), "--workers", "1", "--out", str(out)]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))  # no file may grow beyond: a full disk
    try:
        status = main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert status == 1
    assert "already prepared stays" in capsys.readouterr().err
    assert not list(out.rglob("*.tmp"))
    assert len(list((out / "motion").iterdir())) == 3
    assert main(arguments) == 0
    assert "3 made, 3 were there already" in capsys.readouterr().out
    assert len(PreparedData(out).names("all")) == 4


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 256 kB, where the system lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(source, tmp_path, tiny_disk, capsys):
    for number in range(4):
        write_motion(source, BAD.replace("ch09", f"ch1{number}"), motion(250, number))  # 72 kB each
    arguments = ["--source", str(source), "--workers", "1", "--out", str(tiny_disk / "out")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert re.search("error: cannot write .*: No space left on device. What is already prepared stays", error)
    whole = {name for name in snapshot(tiny_disk) if name.endswith(".npy")}
    assert len(whole) > 2
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    assert main(arguments) == 0
    assert f"{len(whole)} were there already" in capsys.readouterr().out
    assert main([*arguments[:-1], str(tmp_path / "whole")]) == 0
    assert snapshot(tiny_disk / "out") == snapshot(tmp_path / "whole")
