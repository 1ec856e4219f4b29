"""The recipes of docs/EXTENDING.md, carried out in a copy of the repository as they are written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.sequences import PreparedData
from tests.docs.pages import Block, blocks
from tests.helpers import ROOT
from utils.smpl import rest_joints

RECIPES: dict[str, list[Block]] = {}
for _block in blocks((ROOT / "docs" / "EXTENDING.md").read_text()):
    RECIPES.setdefault(_block.heading, []).append(_block)
MAIN = "python main.py "
COPIED = ("models", "datasets", "utils", "configs", "tests")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """A copy of the repository, without recorded numbers."""
    folder = tmp_path_factory.mktemp("copy")
    leave = shutil.ignore_patterns("__pycache__", "golden")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for path in [*ROOT.glob("*.py"), ROOT / "pyproject.toml"]:
        shutil.copy(path, folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def carry_out(recipe: str, folder: Path, later: list[str] | None = None) -> str:
    """Does what a recipe says; what its commands printed. With `later`, runs of main.py are put off."""
    printed = ""
    for block in RECIPES[recipe]:
        if block.language == "diff":
            change(folder, block.text)
        elif block.language in ("python", "yaml"):
            name = re.match(r"# (\S+\.(?:py|yaml))\n", block.text)
            assert name, f"{recipe}: a block does not name its file:\n{block.text[:200]}"
            (folder / name[1]).write_text(block.text[name.end() :])
        else:
            assert block.language == "bash", block
            lines = block.text.splitlines(keepends=True)
            put_off = [line for line in lines if line.startswith(MAIN)] if later is not None else []
            printed += run(folder, "".join(line for line in lines if line not in put_off))
            (later if later is not None else []).extend(put_off)
    return printed


def change(folder: Path, text: str) -> None:
    """Applies a block of added and removed lines, whose unchanged ones must be there once."""
    head, *lines = text.splitlines()
    name = re.fullmatch(r"--- (\S+)", head)
    assert name, text
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    path = folder / name[1]
    content = path.read_text()
    assert content.count(old) == 1, f"{name[1]} has {content.count(old)} times:\n{old}"
    path.write_text(content.replace(old, new))


def run(folder: Path, script: str) -> str:
    """Runs commands; fails with what they printed."""
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}:{Path(np.__file__).parents[1]}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def main(folder: Path, commands: list[str]) -> None:
    """Runs commands of main.py in one process, which spares the imports of all but one."""
    words = [shlex.split(command)[2:] for command in commands]
    code = f"import sys, main\nfor words in {words!r}:\n    assert main.main(words) == 0, words"
    run(folder, f"python -c {shlex.quote(code)}")


@pytest.fixture(scope="module")
def trained(scratch) -> Path:
    """The copy with all recipes that train something carried out."""
    later: list[str] = []
    for recipe in ("A data set", "Another skeleton", "A stage", "A quantizer"):
        carry_out(recipe, scratch, later)
    assert len(later) == 5
    main(scratch, later)
    return scratch


def test_a_metric(scratch):
    assert "1 passed" in carry_out("A metric", scratch)
    dances = scratch / "dances"
    dances.mkdir()
    np.save(dances / "one.npy", rest_joints() + np.linspace(0, 1, 60)[:, None, None])
    printed = run(scratch, "python -m utils.metrics dances --no-plots")
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("|")]
    column = next(i for row in rows for i, cell in enumerate(row) if cell.strip() == "reach")
    assert rows[-1][0].strip() == "generated"
    reach = np.linalg.norm(rest_joints()[[22, 23]] - rest_joints()[0], axis=1).mean()
    assert float(rows[-1][column]) == pytest.approx(reach, abs=0.006)


def test_a_data_set(trained):
    data = PreparedData(trained / "data" / "mine")
    assert (data.names("train"), data.names("test")) == (["take0", "take1"], ["take2"])
    sequence = data.sequence("take0")
    assert sequence.joints.shape == (300, 24, 3)
    assert np.abs(sequence.joints[0] - rest_joints()).max() < 1e-3
    assert (sequence.song, len(sequence.music) > 30, sequence.beats.sum() > 3) == ("click", True, True)
    read = PreparedData(trained / "data" / "takes").sequence("take0")
    assert np.array_equal(read.joints, sequence.joints)
    assert (trained / "experiments" / "mine" / "ckpt" / "last.pt").is_file()


def test_another_skeleton(trained):
    folder = trained / "experiments" / "mine_22" / "sample" / "epoch_0001"
    with np.load(folder / "codes.npz") as made:
        assert made["joints"].shape == (32, 22, 3)
    assert (folder / "codes.mp4").stat().st_size > 1000


def test_a_stage(trained):
    assert (trained / "experiments" / "sample" / "decoders" / "ckpt" / "last.pt").is_file()


def test_a_quantizer(trained):
    assert (trained / "experiments" / "fixed" / "ckpt" / "last.pt").is_file()


def test_an_output_format(trained):
    carry_out("An output format", trained)
    head, *rows = (trained / "tables" / "take0.csv").read_text().splitlines()
    assert head.startswith("seconds,pelvis_x,pelvis_y,pelvis_z,left_hip_x")
    assert len(rows) == 600
    assert float(rows[120].split(",")[0]) == 1.0


def test_every_recipe_has_its_test():
    names = [name.removeprefix("test_") for name in globals() if name.startswith("test_a")]
    tested = {name.replace("_", " ").capitalize() for name in names}
    assert set(RECIPES) == tested
