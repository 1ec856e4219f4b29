"""Reading our own Markdown: the pages, their links and headings, code blocks, and the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "THIRD_PARTY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_INDENTED = re.compile(r"(?:(?<=\n\n)|(?<=\A))(?: {4}.*\n?|\n(?= {4}))+")
_START = re.compile(r"(?:[A-Z_]+=(?:\"[^\"]*\"|\S+) )*(?:\.venv/bin/)?(?:python |\./run\.sh|\./srun\.sh)")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the heading it stands under."""

    language: str
    text: str
    heading: str


def headings(text: str) -> list[str]:
    """All headings, as the text has them; those of code blocks are none."""
    return re.findall(r"^#{1,6} +(.+?) *$", _FENCE.sub("", text), re.M)


def anchor(heading: str) -> str:
    """What a heading is called in a link, by GitHub's rule."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(text: str) -> list[str]:
    """Targets of all links and pictures outside code."""
    prose = re.sub(r"`[^`]*`", "", _FENCE.sub("", text))
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def dead_links(page: Path) -> list[str]:
    """Relative links that lead nowhere, and anchors that no heading has."""
    dead = []
    for target in links(page.read_text()):
        if re.match(r"\w+:", target):
            continue
        name, _, place = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            dead.append(target)
        elif place and place not in {anchor(heading) for heading in headings(path.read_text())}:
            dead.append(target)
    return dead


def blocks(text: str) -> list[Block]:
    """The fenced blocks, in order."""
    found = []
    for match in _FENCE.finditer(text):
        above = headings(text[: match.start()])
        found.append(Block(match[1], match[2], above[-1] if above else ""))
    return found


def commands(text: str) -> list[str]:
    """Commands in fenced and indented blocks and in inline code; blocks of language `bash` run elsewhere."""
    lines: list[str] = []
    for block in blocks(text):
        if block.language != "bash":
            lines += block.text.replace("\\\n", " ").splitlines()
    prose = _FENCE.sub("\n\n", text)
    for match in _INDENTED.finditer(prose):
        lines += match[0].replace("\\\n", " ").splitlines()
    prose = _INDENTED.sub("\n", prose)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    lines = [line.strip().removeprefix("$ ") for line in lines]
    return [line for line in lines if _START.match(line)]


def arguments(command: str) -> list[str]:
    """The words of a command: comments, redirections, `KEY=value` in front and optional [parts] left out."""
    plain = re.sub(r"(^|\s)\[[^\]]*\]", r"\1", command.replace("...", ""))
    words = shlex.split(plain, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    for sign in (">", "|", "&&"):
        words = words[: words.index(sign)] if sign in words else words
    return words
