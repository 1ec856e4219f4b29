"""run.sh makes its environment, or says in one line why it cannot: interpreters are stand-ins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.helpers import ROOT

PYTHON = """#!/usr/bin/env bash
# Stands in for an interpreter: its version, whether it has venv, whether its environments have pip.
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
--version) echo "Python {version}" ;;
"-c import sys"*) exit {too_old} ;;
"-m venv .venv") mkdir -p .venv/bin; {makes} ;;
"-m pip --version") exit {pip} ;;
esac
"""


def interpreter(path, version="3.12.1", pip=0, venv=0, made_pip=0):
    """Writes a stand-in; `pip`, `venv` and `made_pip` are exit codes of it and of what it makes."""
    inner = PYTHON.format(version=version, too_old=0, makes="exit 1", pip=made_pip)
    old = int(tuple(map(int, version.split("."))) < (3, 11))
    makes = f"printf '%s' {_quoted(inner)} > .venv/bin/python; chmod +x .venv/bin/python; exit {venv}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON.format(version=version, too_old=old, makes=makes, pip=pip))
    path.chmod(0o755)
    return path


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout with a space"
    folder.mkdir()
    for name in ("run.sh", "requirements.txt", "requirements-dev.txt", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def call(checkout, python, *arguments):
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        [str(checkout / "run.sh"), *(arguments or ("config.yaml", "train"))],
        capture_output=True,
        text=True,
        env=os.environ | {"CALLS": str(calls), "PYTHON": str(python)},
        timeout=30,
        check=False,
    )
    return done, calls.read_text().splitlines() if calls.exists() else []


def error(done):
    """The only line on stderr."""
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_new_environment_is_made_and_used_again(checkout, tmp_path):
    python = interpreter(tmp_path / "python3.12")
    done, calls = call(checkout, python)
    assert done.returncode == 0, done.stderr
    install = "-m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt"
    assert [c for c in calls if c.startswith(("-m venv", "-m pip install", "main"))] == [
        "-m venv .venv",
        install,
        "main.py --config config.yaml --train",
    ]
    assert call(checkout, python)[1] == ["main.py --config config.yaml --train"]
    with (checkout / "constraints.txt").open("a") as file:  # other versions are installed
        file.write("# another\n")
    assert install in call(checkout, python)[1]


@pytest.mark.parametrize("python_there", [True, False])
def test_a_half_made_environment_is_made_again(checkout, tmp_path, python_there):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "rest").touch()
    if python_there:
        interpreter(checkout / ".venv/bin/python", pip=1)
    done, calls = call(checkout, interpreter(tmp_path / "python3.12"))
    assert done.returncode == 0, done.stderr
    assert "-m venv .venv" in calls
    assert not (checkout / ".venv" / "rest").exists()


def test_an_environment_elsewhere_is_left_alone(checkout, tmp_path):
    interpreter(tmp_path / "other/bin/python", pip=1)
    (checkout / ".venv").symlink_to(tmp_path / "other")
    done, calls = call(checkout, interpreter(tmp_path / "python3.12"))
    assert "remove the link: rm .venv" in error(done)
    assert (tmp_path / "other/bin/python").exists()
    assert "-m venv .venv" not in calls


def test_an_old_python_is_refused_before_anything_is_installed(checkout, tmp_path):
    done, calls = call(checkout, interpreter(tmp_path / "python3", version="3.10.13"))
    assert "is Python 3.10.13; 3.11 to 3.13 is needed: PYTHON=python3.11" in error(done)
    assert not any("install" in call or "venv" in call for call in calls)
    assert not (checkout / ".venv").exists()


def test_an_environment_of_an_old_python_is_refused(checkout, tmp_path):
    interpreter(checkout / ".venv/bin/python", version="3.10.13")
    done, _ = call(checkout, tmp_path / "none")
    assert ".venv is Python 3.10.13; 3.11 to 3.13 is needed: rm -r .venv" in error(done)


@pytest.mark.parametrize("how", [{"venv": 1}, {"made_pip": 1}])
def test_debian_without_venv(checkout, tmp_path, how):
    done, _ = call(checkout, interpreter(tmp_path / "python3", **how))
    assert "apt install python3-venv" in error(done)
    assert not (checkout / ".venv").exists()


def test_no_python(checkout, tmp_path):
    done, _ = call(checkout, tmp_path / "none")
    assert "install Python 3.11 to 3.13" in error(done)


def test_a_real_old_python(checkout):
    """Where this machine has one."""
    old = next(
        iter(sorted((Path.home() / ".pyenv/versions").glob("3.10*/bin/python"))), shutil.which("python3.10")
    )
    if old is None:
        pytest.skip("Python 3.10 is not here")
    done, _ = call(checkout, old)
    assert "Python 3.10" in error(done)


def lines(name):
    text = re.sub(r"#.*", "", (ROOT / name).read_text())
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("-r")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_has_one_exact_version(python):
    """Which its lower bound allows, for every Python that is supported."""
    pins = {}
    for pin in lines("constraints.txt"):
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert pin.name not in pins
            (only,) = pin.specifier
            assert only.operator == "=="
            pins[pin.name.lower().replace("_", "-")] = only.version
    for requirement in lines("requirements.txt") + lines("requirements-dev.txt"):
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")]), requirement


def test_this_python_is_supported():
    assert (3, 11) <= sys.version_info < (3, 14)
