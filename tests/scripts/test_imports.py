"""Commands import heavy libraries only where they are used, and prepare the environment before them."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

HEAVY = (
    "librosa",
    "numba",
    "matplotlib",
    "av",
    "scipy",
    "tensorboard",
    "torch._dynamo",
    "sympy",
    "PIL",
    "smplx",
)
PROBE = """
import json, os, sys
sys.argv = json.loads(sys.argv[1])
try:
    code = {call}
except SystemExit as stop:
    code = stop.code
watched = {watched!r}
loaded = [m for m in watched if m in sys.modules]
print("PROBE" + json.dumps([code, loaded, os.environ.get("OMP_WAIT_POLICY")]))
"""


def probe(call: str, *arguments: str, watched: tuple[str, ...] = HEAVY, **environment: str):
    """Exit code, which of the watched modules were loaded, and OpenMP's wait policy, of a fresh process."""
    code = PROBE.format(call=call, watched=("torch", *watched))
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(arguments))],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.rpartition("PROBE")[2])


def test_help_needs_no_torch():
    code, loaded, _ = probe("__import__('main').main()", "main.py", "--help")
    assert (code, loaded) == (0, [])


@pytest.mark.parametrize("config", ["sep_vqvae", "sep_vqvae_root", "cc_motion_gpt", "actor_critic"])
def test_config_error_loads_nothing_heavy_but_torch(config):
    arguments = ("main.py", "--config", f"configs/{config}.yaml", "--train", "trainin.lr=1")
    code, loaded, policy = probe("__import__('main').main()", *arguments)
    assert (code, loaded, policy) == (2, ["torch"], "passive")


@pytest.mark.parametrize("call", ["import models.vqvae", "import datasets.clips", "import utils.motion"])
def test_threads_wait_passively_whatever_is_imported_first(call):
    assert probe(f"exec({call!r})")[2] == "passive"


def test_wait_policy_of_the_user_counts():
    assert probe("exec('import models.vqvae')", OMP_WAIT_POLICY="active")[2] == "active"


def test_numba_cache_where_nothing_can_be_written(monkeypatch, tmp_path):
    from utils import environment

    monkeypatch.setenv("NUMBA_CACHE_DIR", "so that it is put back afterwards")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(environment, "_is_writable", lambda folder: False)
    environment.provide_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"].startswith(str(environment.tempfile.gettempdir()))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    environment.provide_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path)
