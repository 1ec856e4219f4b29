"""The house: imports point one way, every file says what it is, and the commands of the README exist."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import ROOT

LAYERS = ("utils", "datasets", "models")  # each may import those before it
ROOMS = ("models.stages", "models.inference", "models.evaluation")  # the rest of models knows none of them
OURS = (*LAYERS, "main", "tests", "prepare_aistpp_data", "extract_aist_features")
WITHOUT_CONFIG = ("utils.export", "utils.metrics", "utils.render", "utils.music", "utils.motion")


def sources() -> list[Path]:
    return [path for folder in LAYERS for path in sorted((ROOT / folder).rglob("*.py"))]


def module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


MODULES = {module(path) for path in sources()}


def imports(path: Path) -> set[str]:
    """Our modules that a file imports anywhere, inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & MODULES) or {node.module or ""}
    return {name for name in names if name.split(".")[0] in OURS}


def with_packages(names: set[str], name: str) -> set[str]:
    """Modules that importing others runs: themselves and their packages, except those of `name`."""
    parts = [other.split(".") for other in names]
    found = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
    return {other for other in found & MODULES if other != name and not name.startswith(f"{other}.")}


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    name = module(path)
    layer = name.split(".")[0]
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    for other in imports(path):
        assert other.split(".")[0] in allowed, f"{name} imports {other}"
        if layer == "models" and not name.startswith(ROOMS):
            assert not other.startswith(ROOMS), f"{name} imports {other}"
        if name.startswith(WITHOUT_CONFIG):
            assert not other.startswith(("utils.training", "utils.config")), f"{name} imports {other}"


def test_no_imports_in_a_circle():
    left = {module(path): with_packages(imports(path), module(path)) for path in sources()}
    while leaves := [name for name, others in left.items() if not others & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, {name: sorted(others & left.keys()) for name, others in left.items()}


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_say_what_they_are(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is"


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
