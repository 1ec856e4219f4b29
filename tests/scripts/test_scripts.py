"""run.sh and srun.sh build the right commands: stand-ins on PATH write down what they are called with."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT

SEP, CRITIC = "configs/sep_vqvae.yaml", "configs/actor_critic.yaml"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
"""


@pytest.fixture
def checkout(tmp_path):
    """The scripts in an empty folder, with a stand-in for srun and for .venv's python."""
    folder = tmp_path / "checkout with a space"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "bin").mkdir()
    for name in ("run.sh", "srun.sh", "requirements.txt", "requirements-dev.txt", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / ".venv/bin/python", folder / "bin/srun"):
        path.write_text(STAND_IN)
        path.chmod(0o755)
    return folder


def call(checkout: Path, script: str, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
    """Exit code, the calls of the stand-ins, and what was printed."""
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(checkout / script), *arguments],
        capture_output=True,
        text=True,
        cwd=checkout.parent,
        env=os.environ | {"CALLS": str(calls), "PATH": path} | environment,
        check=False,
    )
    return (
        done.returncode,
        calls.read_text().splitlines() if calls.exists() else [],
        done.stdout + done.stderr,
    )


def test_srun_on_one_gpu(checkout):
    code, calls, _ = call(checkout, "srun.sh", SEP, "train", "gpu", "1", "training.lr=1e-4", "seed=3")
    assert code == 0
    assert calls == [
        "srun --partition gpu --gres=gpu:1 --nodes 1 --ntasks 1 --cpus-per-task 4 --job-name sep_vqvae_train "
        "--signal USR1@120 --kill-on-bad-exit 1 .venv/bin/python main.py --config configs/sep_vqvae.yaml "
        "--train training.lr=1e-4 seed=3"
    ]


def test_srun_on_several_gpus_and_without(checkout):
    _, calls, _ = call(checkout, "srun.sh", CRITIC, "eval", "gpu", "4")
    assert "--gres=gpu:4" in calls[0]
    assert "-m utils.training.launch --standalone --nproc_per_node 4 main.py --config " in calls[0]
    assert calls[0].endswith("--eval")
    _, calls, _ = call(checkout, "srun.sh", CRITIC, "eval", "cpu", "0", SRUN_OPTIONS="--time 2:00:00")
    assert "--gres" not in calls[0]
    assert "--time 2:00:00" in calls[0]


def stand_in(checkout: Path, name: str, script: str) -> None:
    """Puts a script in the place of a command."""
    path = checkout / "bin" / name
    path.write_text(f"{STAND_IN}{script}\n")
    path.chmod(0o755)


def test_srun_on_several_nodes(checkout):
    """Every node starts the launcher, which meets the others at the first node."""
    stand_in(checkout, "scontrol", "echo node1; echo node2")
    stand_in(checkout, "srun", 'while [ "$1" != bash ]; do shift; done; exec "$@"')
    slurm = {"SLURM_JOB_ID": "20007", "SLURM_JOB_NODELIST": "node[1-2]"}
    code, calls, _ = call(checkout, "srun.sh", CRITIC, "train", "gpu", "16", "name=a b", NODES="2", **slurm)
    assert code == 0
    assert calls[0].startswith("srun --partition gpu --gres=gpu:8 --nodes 2 --ntasks 2 --cpus-per-task 32 ")
    assert "scontrol show hostnames node[1-2]" in calls
    assert calls[-1] == (
        "python -m utils.training.launch --nnodes 2 --nproc_per_node 8 --rdzv-backend c10d "
        "--rdzv-id 20007 --rdzv-endpoint node1:20007 main.py "
        "--config configs/actor_critic.yaml --train name=a b"
    )


def test_srun_submits(checkout):
    stand_in(checkout, "sbatch", "")
    code, calls, _ = call(checkout, "srun.sh", SEP, "train", "gpu", "2", "seed=3", BATCH="1")
    assert code == 0
    assert calls == [
        "sbatch --partition gpu --gres=gpu:2 --nodes 1 --ntasks 1 --cpus-per-task 8 "
        "--job-name sep_vqvae_train --requeue --open-mode append --signal B:USR1@120 --export ALL,IN_BATCH=1 "
        "srun.sh configs/sep_vqvae.yaml train gpu 2 seed=3"
    ]


@pytest.mark.parametrize(
    ("exit_code", "told", "requeued"),
    [
        (0, False, False),
        (1, False, False),
        (75, False, True),
        (75, True, True),
        (1, True, True),
        (0, True, False),
    ],
)
def test_a_job_that_has_to_stop_comes_again(checkout, exit_code, told, requeued):
    """Told by Slurm (1 is what srun may make of 75), or stopped with 75."""
    stand_in(checkout, "scontrol", "")
    wait = f"trap 'exit {exit_code}' USR1; touch \"$CALLS.up\"; while :; do sleep 0.05; done"
    stand_in(checkout, "srun", wait if told else f"exit {exit_code}")
    calls = checkout / "calls"
    process = subprocess.Popen(
        [str(checkout / "srun.sh"), SEP, "train", "gpu", "2"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"CALLS": str(calls), "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
        | {"BATCH": "1", "IN_BATCH": "1", "SLURM_JOB_ID": "7"},
    )
    if told:
        up = Path(f"{calls}.up")
        while not up.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
    printed, _ = process.communicate(timeout=30)
    assert ("scontrol requeue 7" in calls.read_text().splitlines()) == requeued
    assert ("it goes on when job 7 starts again" in printed) == requeued
    assert process.returncode == (0 if requeued else exit_code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "CONFIG MODE PARTITION NUM_GPUS"),
        (("configs/sep_vqvae.yaml", "sing", "gpu", "1"), "MODE must be"),
        (("configs/none.yaml", "train", "gpu", "1"), "there is no config"),
        (("configs/sep_vqvae.yaml", "train", "gpu", "many"), "NUM_GPUS must be"),
        (("configs/sep_vqvae.yaml", "train", "gpu", "9"), "NUM_GPUS must be"),
    ],
)
def test_srun_refuses(checkout, arguments, message):
    code, calls, printed = call(checkout, "srun.sh", *arguments)
    assert code == 2
    assert not calls
    assert message in printed


def test_run_one_stage(checkout):
    code, calls, _ = call(checkout, "run.sh", "configs/sep_vqvae.yaml", "train", "seed=3")
    assert code == 0
    installing = "pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt"
    assert calls[-2].endswith(installing)
    assert calls[-1] == "python main.py --config configs/sep_vqvae.yaml --train seed=3"
    _, calls, _ = call(checkout, "run.sh", "configs/sep_vqvae.yaml", "train", "2", "seed=3")
    assert calls == [
        "python -m utils.training.launch --standalone --nproc_per_node 2 main.py "
        "--config configs/sep_vqvae.yaml --train seed=3"
    ]


def test_run_tests(checkout):
    code, calls, _ = call(checkout, "run.sh", "test", "-k", "config")
    assert code == 0
    assert any("pip install" in c and c.endswith("-c constraints.txt -r requirements-dev.txt") for c in calls)
    assert calls[-1] == "python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile -k config"


def made_by_the_quick_start(checkout):
    for path in ("sep_vqvae/visgt/real.mp4", "actor_critic/eval/epoch_0001/videos/dance.mp4"):
        video = checkout / "experiments/sample" / path
        video.parent.mkdir(parents=True)
        video.touch()


def test_run_without_arguments_is_the_quick_start(checkout):
    made_by_the_quick_start(checkout)
    code, calls, printed = call(checkout, "run.sh")
    assert code == 0
    commands = [c for c in calls if c.startswith(("python prepare", "python main.py"))]
    assert commands[0] == "python prepare_aistpp_data.py --sample"
    prefix = "python main.py --config configs/sample"
    memory, velocity = f"{prefix}/sep_vqvae.yaml --train", f"{prefix}/sep_vqvae_root.yaml --train"
    gpt = f"{prefix}/cc_motion_gpt.yaml --train vqvae=experiments/sample/sep_vqvae/ckpt/last.pt"
    critic = f"{prefix}/actor_critic.yaml --train"
    # Pictures are made beside training, and the velocity branch beside the GPT: those may change places.
    real, codes = (
        f"{prefix}/sep_vqvae.yaml --visgt evaluation.videos=1",
        f"{prefix}/sep_vqvae_root.yaml --anl",
    )
    assert [sorted(commands[i : i + 2]) for i in (1, 3, 5)] == [
        sorted(pair) for pair in ((memory, real), (velocity, gpt), (critic, codes))
    ]
    assert len(commands) == 8
    assert commands[-1] == f"{prefix}/actor_critic.yaml --eval"
    assert "real.mp4" in printed
    assert "dance.mp4" in printed


def test_quick_start_ends_where_pictures_fail(checkout):
    made_by_the_quick_start(checkout)
    python = checkout / ".venv/bin/python"
    python.write_text(STAND_IN + 'case "$*" in *--anl*) echo "no room left"; exit 2 ;; esac\n')
    code, calls, printed = call(checkout, "run.sh")
    assert code == 1
    assert "failed, see experiments/sample/codes.log" in printed
    assert "no room left" in (checkout / "experiments/sample/codes.log").read_text()
    assert not any(c.endswith("actor_critic.yaml --eval") for c in calls)


def test_other_constraints(checkout):
    (checkout / "mine.txt").touch()
    _, calls, _ = call(checkout, "run.sh", "test", CONSTRAINTS="mine.txt")
    assert any(c.endswith("-c mine.txt -r requirements-dev.txt") for c in calls)


def test_run_explains_itself(checkout):
    code, calls, printed = call(checkout, "run.sh", "--help")
    assert code == 2
    assert not calls
    assert "CONFIG MODE [NUM_GPUS] [key=value ...]" in printed
    assert "CONFIG dance SONG... [--out DIR] [key=value ...]" in printed
    assert printed.rstrip().endswith("the same command then goes on.")


@pytest.mark.parametrize("script", ["run.sh", "srun.sh"])
def test_songs_are_named_as_seen_from_where_the_script_is_called(checkout, script):
    """Those that exist there; what is there already, overrides and --out stay as they are."""
    song = checkout.parent / "a song.mp3"
    song.touch()
    more = ("gpu", "0") if script == "srun.sh" else ()
    wanted = (CRITIC, "dance", *more, "a song.mp3", "none.mp3", str(song), "--out", "out", "seed=3")
    code, calls, _ = call(checkout, script, *wanted)
    assert code == 0
    assert calls[-1].endswith(f"main.py --config {CRITIC} --dance {song} none.mp3 {song} --out out seed=3")
