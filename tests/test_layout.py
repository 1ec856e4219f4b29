"""The house: imports point one way, files stay one idea, and the commands of the README exist."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

ALLOWED = {
    "utils": {"utils"},
    "datasets": {"datasets", "utils"},
    "models": {"models", "utils"},
    "models.stages": {"models", "datasets", "utils"},
}
OURS = ("models", "datasets", "utils", "main", "tests", "prepare_aistpp_data", "extract_aist_features")
PLAIN = (
    "utils/export",
    "utils/metrics",
    "utils/render",
    "utils/motion.py",
    "utils/skeleton.py",
    "utils/audio.py",
)

LONGER = {"models/stages/dancing.py": 400}  # one idea, which takes more lines


def sources():
    return [
        path for folder in ("utils", "datasets", "models") for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return {name for name in names if name.split(".")[0] in OURS}


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    place = path.relative_to(ROOT).as_posix()
    layer = "models.stages" if place.startswith("models/stages") else place.split("/")[0]
    for name in imports(path):
        assert name.split(".")[0] in ALLOWED[layer], f"{place} imports {name}"
        if layer == "models":
            assert not name.startswith("models.stages"), f"{place} imports {name}"
        if place.startswith(PLAIN):
            assert name not in ("utils.trainer", "utils.config"), f"{place} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_say_what_they_are_and_stay_short(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is"
    most = LONGER.get(path.relative_to(ROOT).as_posix(), 300)
    assert len(text.splitlines()) <= most, f"{path} has {len(text.splitlines())} lines"


def test_top_level():
    for name in (
        "main.py", "prepare_aistpp_data.py", "extract_aist_features.py", "run.sh", "srun.sh",
        "requirements.txt", "README.md", "LICENSE", "configs", "models", "datasets", "utils",
    ):  # fmt: skip
        assert (ROOT / name).exists(), name


def test_commands_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(
        r"python (\w+\.py)|python -m ([\w.]+)|\./(\w+\.sh)|--config (configs/[\w/]+\.yaml)", text
    )
    found = {next(part for part in command if part) for command in commands}
    assert found
    for command in found:
        is_module = not command.endswith((".py", ".sh", ".yaml"))
        if is_module and command.split(".")[0] not in ("utils", "tests", "models", "datasets"):
            continue
        path = ROOT / (command.replace(".", "/") if is_module else command)
        assert path.exists() or path.with_suffix(".py").exists(), command
