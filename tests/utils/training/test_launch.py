"""Several processes that are told to stop save, and the launcher exits as one process would."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.helpers import ROOT
from tests.models.stages import synthetic
from utils.config import write_yaml
from utils.training import launch
from utils.training.checkpoints import load_checkpoint

LAUNCH = [sys.executable, "-m", "utils.training.launch", "--standalone", "--nproc_per_node", "2"]


def test_options_are_those_that_the_launcher_knows():
    known = ["--nnodes", "--signals-to-handle", "--shutdown-timeout"]
    assert launch.stop_options(known) == [
        "--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGUSR1", "--shutdown-timeout", "110",
    ]  # fmt: skip
    assert launch.stop_options(["--nnodes"]) == []


def test_a_launcher_without_these_options_handles_sigusr1(monkeypatch):
    parser = launch.get_args_parser()
    for action in list(parser._actions):
        if action.dest in ("signals_to_handle", "shutdown_timeout"):
            parser._actions.remove(action)
    monkeypatch.setattr(launch, "get_args_parser", lambda: parser)
    given = []

    def run(options):
        given.append(options.training_script_args)
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(launch, "run", run)
    before = signal.getsignal(signal.SIGUSR1)
    try:
        assert launch.main(["--nproc_per_node", "2", "main.py", "--config", "x"]) == 75
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert given == [["--config", "x"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.make_data(tmp_path_factory.mktemp("launch") / "data")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGUSR1, 75)])
def test_a_signal_saves_and_ends_without_a_traceback(data, tmp_path, number, status):
    config = synthetic.make_config("sep_vqvae", data, tmp_path, epochs=100_000)
    write_yaml(config, tmp_path / "config.yaml")
    command = [*LAUNCH, "main.py", "--config", str(tmp_path / "config.yaml"), "--train"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        last = config.folder / "ckpt" / "last.pt"
        try:
            while not last.is_file() and process.poll() is None:
                time.sleep(0.1)
            process.send_signal(number)
            assert process.wait(timeout=100) == status
        finally:
            process.kill()
    printed = (tmp_path / "log").read_text()
    assert "Traceback" not in printed
    assert f"stopped by {number.name}" in printed
    content = load_checkpoint(last, "this test")
    assert content["step"] > 0
    assert torch.is_tensor(content["model"][next(iter(content["model"]))])


def test_errors_of_all_processes_keep_their_status(data, tmp_path):
    config = synthetic.make_config("sep_vqvae", data, tmp_path, epochs=1, batch_size=7)
    write_yaml(config, tmp_path / "config.yaml")
    command = [*LAUNCH, "main.py", "--config", str(tmp_path / "config.yaml"), "--train"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a batch of 7 does not divide among 2 processes" in done.stderr
    assert "Traceback" not in done.stderr
