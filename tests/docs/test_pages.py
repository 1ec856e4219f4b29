"""README and docs: no link leads nowhere, and every command is one that the parsers take."""

import argparse
import importlib
import importlib.util
import inspect
import re
import sys

import pytest
import yaml

import main
from models.stages.registry import read_config
from tests.docs.pages import PAGES, anchor, arguments, blocks, commands, dead_links, links
from tests.helpers import ROOT

PLACEHOLDERS = ("CONFIG", "configs/NAME.yaml")  # of a config; options after it cannot be checked
COMMANDS = {
    f"{page.name}: {command}": command
    for page in PAGES
    for command in commands(page.read_text() if page.is_file() else "")
}


class Parsed(Exception):
    """The arguments were accepted."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_commands_are_accepted(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    try:
        accepted(command, monkeypatch)
    except SystemExit:
        pytest.fail(f"{command}\n{capsys.readouterr().err}")


def accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises unless the command's program takes its arguments."""
    program, *words = arguments(command)
    if program == "./run.sh":
        if not words or words[0] in ("test", "--help"):
            return
        config, mode, *rest = words
        stage(config, mode, rest[1:] if rest[:1] and rest[0].isdigit() else rest)
    elif program == "./srun.sh":
        config, mode, _, _, *rest = words
        stage(config, mode, rest)
    elif words[0] == "-m":
        module, *rest = words[1:]
        if module.split(".")[0] not in ("models", "datasets", "utils", "tests"):
            assert importlib.util.find_spec(module), f"there is no module {module}"
            return
        package = importlib.util.find_spec(module)
        assert package, f"there is no module {module}"
        parses(f"{module}.__main__" if package.submodule_search_locations else module, rest, monkeypatch)
    elif words[0] == "main.py":
        options = main.parse_arguments(words[1:])
        if str(options.config) not in PLACEHOLDERS:
            read_config(options.config, options.overrides)
    elif "/" in words[0]:
        assert (ROOT / words[0]).is_file(), f"there is no {words[0]}"
    else:
        parses(words[0].removesuffix(".py"), words[1:], monkeypatch)


def stage(config: str, mode: str, rest: list[str]) -> None:
    """What run.sh and srun.sh make of their arguments; MODE stands for any."""
    mode = "train" if mode == "MODE" else mode
    options = main.parse_arguments(["--config", config, f"--{mode}", *rest])
    if config not in PLACEHOLDERS:
        read_config(options.config, options.overrides)


def parses(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a module's `main` as far as its parser; a program that is only named has to be there."""
    program = importlib.import_module(module)
    if not words:
        return
    assert "ArgumentParser" in inspect.getsource(program), f"{module} takes no arguments"
    for name in ("parse_args", "parse_intermixed_args"):
        plain = getattr(argparse.ArgumentParser, name)

        def stop(self, *given, plain=plain, **more):
            plain(self, *given, **more)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    monkeypatch.setattr(sys, "argv", [module, *words])
    with pytest.raises(Parsed):
        program.main()


@pytest.mark.parametrize(
    "wrong",
    [
        "python main.py --config configs/none.yaml --train",
        "python main.py --config configs/sep_vqvae.yaml --train training.lrr=1",
        "python main.py --config configs/sep_vqvae.yaml --tarin",
        "python prepare_aistpp_data.py --sorce X",
        "python -m utils.metrics DANCES --protocol none",
        "python -m utils.nothing X",
        "./run.sh configs/sep_vqvae.yaml train 2 training.epoch=1",
    ],
)
def test_wrong_commands_are_found(wrong, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((SystemExit, ValueError, FileNotFoundError, AssertionError)):
        accepted(wrong, monkeypatch)


def test_what_is_read_out_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `page`: the 1st, (new)\n\n    python main.py --x  # why\n    ./run.sh\n\ntext `python -m a\nb` "
        "[x](#a-page-the-1st-new) [y](none.md) [z](#no) `[q](r)` [w](https://a.b)\n\n"
        "```\nA=1 python b.py [k=v ...] \\\n  c=[1,2] > d\n```\n\n```bash\npython run.py\n```\n"
    )
    text = page.read_text()
    assert commands(text) == [
        "A=1 python b.py [k=v ...]    c=[1,2] > d", "python main.py --x  # why", "./run.sh", "python -m a b",
    ]  # fmt: skip
    assert arguments(commands(text)[0]) == ["python", "b.py", "c=[1,2]"]
    assert arguments(commands(text)[1]) == ["python", "main.py", "--x"]
    assert links(text) == ["#a-page-the-1st-new", "none.md", "#no", "https://a.b"]
    assert dead_links(page) == ["none.md", "#no"]
    assert [b.language for b in blocks(text)] == ["", "bash"]
    assert anchor("`training`: every stage") == "training-every-stage"


def test_there_are_commands():
    assert len(COMMANDS) > 40


def test_the_citation_is_complete():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "license", "version"} <= content.keys()
    paper = content["preferred-citation"]
    assert {"type", "title", "authors", "year", "conference"} <= paper.keys()
    assert all("name" in a or {"family-names", "given-names"} <= a.keys() for a in paper["authors"])
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert content["version"] == newest[1]


def test_every_library_has_its_licence_named():
    text = (ROOT / "THIRD_PARTY.md").read_text()
    listed = {name for row in re.findall(r"^\| ([\w, -]+) \|", text, re.M) for name in row.split(", ")}
    for file in ("requirements.txt", "requirements-dev.txt"):
        names = re.findall(r"^([A-Za-z_][\w-]*)", (ROOT / file).read_text(), re.M)
        assert names
        assert set(names) <= listed, set(names) - listed
