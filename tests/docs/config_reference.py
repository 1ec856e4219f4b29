"""docs/CONFIG.md: every key of every stage, out of the dataclasses' docstrings and the shipped YAMLs.

    python -m tests.docs.config_reference > docs/CONFIG.md

A key without a line under `Attributes:` of its dataclass is an error, so that none stays undocumented.
"""

import argparse
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from models.stages import STAGES, RunConfig
from utils.config import read_yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KINDS = {"published": CONFIGS, "sample": CONFIGS / "sample"}
HEAD = """# Every key of every config

Generated from the dataclasses beside the code and from `configs/`; do not edit it, but run

    python -m tests.docs.config_reference > docs/CONFIG.md

*Default* is what the dataclass has; the shipped files write every key out all the same. *Published* and
*sample* are what `configs/` and `configs/sample/` say; where files differ, each value is followed by those
that have it. On the command line `key.sub=value` overrides a key: `training.lr=1e-4`,
`training.milestones=[100,200]`, `checkpoint=null`.
"""


class Section(NamedTuple):
    """One dataclass at one place: the path of keys to it, and the stages that have it there."""

    path: str
    cls: type
    stages: tuple[str, ...]


def sections(stages: Mapping[str, type[RunConfig]]) -> list[Section]:
    """All sections, in the order of the stages' fields; stages that share a dataclass share a section."""
    found: dict[tuple[str, type], list[str]] = {}
    for name, cls in stages.items():
        for path, part in _parts(cls, ""):
            found.setdefault((path, part), []).append(name)
    return [Section(path, cls, tuple(names)) for (path, cls), names in found.items()]


def _parts(cls: type, path: str) -> Iterator[tuple[str, type]]:
    """The dataclass and the ones in it; what a stage inherits from RunConfig is a section of its own."""
    if issubclass(cls, RunConfig):
        for base in reversed(cls.__mro__):
            if dataclasses.is_dataclass(base) and own_fields(base):
                yield path, base
    else:
        yield path, cls
    for name, part in _nested(cls):
        yield from _parts(part, f"{path}{name}.")


def own_fields(cls: type) -> list[dataclasses.Field[Any]]:
    """The fields a dataclass declares itself, sections left out; of a section, inherited ones too."""
    inherited: set[str] = set()
    if issubclass(cls, RunConfig):
        bases = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
        inherited = {field.name for base in bases for field in dataclasses.fields(base)}
    apart = {name for name, _ in _nested(cls)}
    return [f for f in dataclasses.fields(cls) if f.name not in inherited and f.name not in apart]


def _nested(cls: type) -> list[tuple[str, type]]:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    return [(name, hints[name]) for name in names if dataclasses.is_dataclass(hints[name])]


def described(cls: type) -> dict[str, str]:
    """What the docstrings of a dataclass and of those it inherits from say of each attribute.

    Raises:
        ValueError: if a field, sections included, has no line there.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            texts |= _attributes(inspect.cleandoc(base.__doc__ or ""))
    bare = [field.name for field in dataclasses.fields(cls) if field.name not in texts]
    if bare:
        raise ValueError(f"the docstring of {cls.__name__} says nothing of: {', '.join(bare)} (Attributes:)")
    return texts


def _attributes(docstring: str) -> dict[str, str]:
    """The entries of a docstring's `Attributes:`, each joined to one line."""
    _, _, after = docstring.partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in after.splitlines():
        if line and not line.startswith(" "):
            break  # another part of the docstring
        entry = re.fullmatch(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            texts[name] = entry[2]
        elif name:
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts


def kind_of(schema: Mapping[str, Any]) -> str:
    """The type of a key in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(kind_of(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    plain = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: " + ", ".join(map(kind_of, schema["prefixItems"]))
        return f"list, each {kind_of(schema.get('items', {}))}"
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([plain.get(kind, f"`{kind}`"), ", ".join(limits)]).strip()


def shown(value: object) -> str:
    """A value as YAML has it, in code quotes."""
    if isinstance(value, list | tuple):
        return f"`[{', '.join(shown(entry).strip('`') for entry in value)}]`"
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _values(configs: Mapping[str, Mapping[str, Any]], path: str, key: str) -> str:
    """What the configs (name -> content) say of a key: one value, or each with the configs that have it."""
    held: dict[str, list[str]] = {}
    for name, content in configs.items():
        part: Any = content
        for step in path.split(".")[:-1]:
            part = part.get(step, {})
        if key in part:
            held.setdefault(shown(part[key]), []).append(name)
    if len(held) == 1:
        return next(iter(held))
    return "; ".join(f"{value} {', '.join(names)}" for value, names in held.items()) or "-"


def table(section: Section, configs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The rows of a section; configs are kind -> name -> content, of the section's stages."""
    texts, keys = described(section.cls), own_fields(section.cls)
    schema = TypeAdapter(section.cls).json_schema()["properties"]
    lines = [
        f"| key | meaning | type | default | {' | '.join(configs)} |",
        "|---|---|---|---|" + "---|" * len(configs),
    ]
    for field in keys:
        default = "required" if field.default is dataclasses.MISSING else shown(field.default)
        cells = [f"`{section.path}{field.name}`", texts[field.name], kind_of(schema[field.name]), default]
        cells += [_values(named, section.path, field.name) for named in configs.values()]
        lines.append(
            "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"
        )
    return lines


def markdown(stages: Mapping[str, type[RunConfig]] | None = None, kinds: Mapping[str, Path] = KINDS) -> str:
    """The whole document.

    Raises:
        ValueError: if a key is not documented.
    """
    stages = stages or {name: stage.Config for name, stage in STAGES.items()}
    yamls = {
        kind: {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}
        for kind, folder in kinds.items()
    }
    parts = [HEAD]
    for section in sorted(sections(stages), key=lambda s: len(s.stages) < len(stages)):  # common ones first
        if not own_fields(section.cls):
            continue
        common = len(section.stages) == len(stages)
        where = "every stage" if common else ", ".join(f"`{name}`" for name in section.stages)
        title = f"`{section.path[:-1]}`" if section.path else "top level"
        first = inspect.cleandoc(section.cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        own = {
            kind: {name: content for name, content in named.items() if content["stage"] in section.stages}
            for kind, named in yamls.items()
        }
        parts += [f"\n## {title}: {where}\n\n{first}\n", *table(section, own)]
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the document."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    sys.stdout.write(markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
