"""docs/CONFIG.md is what its generator writes, and the generator passes over no key."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter

from models.stages.base import RunConfig
from models.stages.registry import STAGES
from tests.docs.config_reference import described, kind_of, main, markdown, sections, shown
from tests.helpers import ROOT
from utils.config import ConfigModel, keys_of


class Inner(ConfigModel):
    """An inner one."""

    depth: float = 2.0
    """Depth,
    in metres."""


class Outer(RunConfig):
    """An outer one."""

    extra: tuple[int, ...] | None = None
    """Anything."""
    inner: Inner = Inner()
    """See Inner."""


def test_the_committed_file_is_the_generated_one():
    written = (ROOT / "docs" / "CONFIG.md").read_text()
    assert written == markdown(), "run: python -m tests.docs.config_reference > docs/CONFIG.md"


def test_every_key_of_every_stage_is_there(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    for stage in STAGES.values():
        missing = [key for key in keys_of(stage.Config) if f"| `{key}` |" not in text]
        assert not missing, (stage.name, missing)


def test_an_undocumented_key_is_an_error():
    class Bare(RunConfig):
        """A key without an explanation."""

        secret: int = 0

    with pytest.raises(ValueError, match="Bare does not explain: secret"):
        described(Bare)


def test_sections_and_texts():
    assert [(s.path, s.cls) for s in sections({"outer": Outer})][:2] == [("", RunConfig), ("", Outer)]
    assert ("inner.", Inner) in [(s.path, s.cls) for s in sections({"outer": Outer})]
    assert described(Inner) == {"depth": "Depth, in metres."}
    text = markdown({"outer": Outer}, {})
    assert "| `inner.depth` | Depth, in metres. | number | `2` |" in text
    assert "| `extra` | Anything. | list, each whole number or `null` | `null` |" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "whole number"),
        (Annotated[float, Field(ge=0, lt=1)], "number >= 0, < 1"),
        (Literal["a", "b"], "`a` or `b`"),
        (str | None, "text or `null`"),
        (tuple[int, int], "list of 2: whole number, whole number"),
        (bool, "`true` or `false`"),
    ],
)
def test_kinds(kind, words):
    assert kind_of(TypeAdapter(kind).json_schema()) == words


def test_values():
    given = [0.5, 1e-5, 3, True, None, (1, "a"), "x"]
    assert [shown(v) for v in given] == ["`0.5`", "`1e-05`", "`3`", "`true`", "`null`", "`[1, a]`", "`x`"]
