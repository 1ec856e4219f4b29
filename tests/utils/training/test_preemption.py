"""Real processes, told to stop or killed at random, go on and end where an undisturbed run ends."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT
from tests.models.stages import synthetic
from tests.utils.training.test_resume import assert_same
from utils.config import write_yaml
from utils.training.preemption import PreemptionHandler, Stopped

EPOCHS = 15
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The data, and the last checkpoint of a run that nobody stopped."""
    root = tmp_path_factory.mktemp("undisturbed")
    synthetic.make_data(root / "data")
    trainer, _ = synthetic.make_trainer("sep_vqvae", root / "data", root, epochs=EPOCHS)
    trainer.run()
    return root / "data", trainer.last


class Run:
    """A run that is started again and again, each step followed by a save."""

    def __init__(self, data: Path, folder: Path) -> None:
        config = synthetic.make_config("sep_vqvae", data, folder, epochs=EPOCHS, save_steps=1)
        self.config, self.last = folder / "config.yaml", config.folder / "ckpt" / "last.pt"
        write_yaml(config, self.config)

    def start(self, *launcher: str) -> subprocess.Popen:
        """Starts it and waits for its first save."""
        before = self.last.stat().st_mtime_ns if self.last.exists() else 0
        command = [sys.executable, *launcher, "main.py", "--config", str(self.config), "--train"]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3000):
            if process.poll() is not None or (self.last.exists() and self.last.stat().st_mtime_ns != before):
                break
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()
        return process

    def steps(self) -> int:
        """How many are saved."""
        return torch.load(self.last, weights_only=True)["step"]

    def finish(self) -> None:
        """Runs it to its end."""
        command = [sys.executable, "main.py", "--config", str(self.config), "--train"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_stopped_and_killed_at_random_it_ends_where_it_should(undisturbed, tmp_path):
    data, last = undisturbed
    run, moments, steps = Run(data, tmp_path), random.Random(), [0]
    for number, code in (
        (signal.SIGKILL, -signal.SIGKILL),  # steps are short and each is saved: most likely while writing
        (signal.SIGINT, 130),
    ):
        process = run.start()
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(number)
        _, printed = process.communicate(timeout=60)
        assert process.returncode == code, printed
        if code > 0:
            assert f"stopped by {number.name}; --train resumes from the last checkpoint" in printed
            assert "Traceback" not in printed
        steps.append(run.steps())
    assert steps == sorted(set(steps)), steps  # each start got further
    assert steps[-1] < 6 * EPOCHS, "it had nothing left to do; let EPOCHS grow"
    run.finish()
    assert not list(run.last.parent.glob("*.tmp"))
    assert_same(*(torch.load(path, weights_only=True) for path in (last, run.last)))


def test_two_processes_stop_in_the_same_step(undisturbed, tmp_path):
    """Only one of them is told; both stop, and one process goes on from what they saved."""
    data, _ = undisturbed
    run = Run(data, tmp_path)
    process = run.start(*TORCHRUN)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.terminate()
        pytest.skip("this system does not tell a process's children")
    second = int(children.read_text().split()[1])
    subprocess.run(["kill", "-USR1", str(second)], check=True)
    _, printed = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "exitcode  : 75" in printed, printed
    assert "stopped by SIGUSR1" in printed
    assert 0 < run.steps() < 6 * EPOCHS
    run.finish()
    assert run.steps() == 6 * EPOCHS


def test_a_launcher_told_to_stop_lets_its_processes_save(undisturbed, tmp_path):
    data, _ = undisturbed
    run = Run(data, tmp_path)
    process = run.start(
        *TORCHRUN, "--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1", "--shutdown-timeout", "50"
    )
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode != 0
    assert printed.count("stopped by SIGTERM") >= 1, printed
    assert 0 < run.steps() < 6 * EPOCHS


def test_where_nothing_is_unsaved_it_stops_at_once():
    with PreemptionHandler() as stop, pytest.raises(Stopped) as stopped, stop.immediate():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 75
    with PreemptionHandler() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.agreed() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("signalled", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("Connection closed by peer"), ValueError("wrong")])
def test_an_error_of_communication_after_a_signal_is_a_stop(error, signalled):
    """Another process acted on the signal where nothing was unsaved, and has left."""

    def train():
        if signalled:
            signal.raise_signal(signal.SIGUSR1)
        raise error

    is_stop = signalled and isinstance(error, RuntimeError)
    with pytest.raises(Stopped if is_stop else type(error)) as caught, PreemptionHandler():
        train()
    assert (caught.value.code == 75) if is_stop else (caught.value is error)
