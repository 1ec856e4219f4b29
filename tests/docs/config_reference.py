"""docs/CONFIG.md: every key of every stage, from the strings below its fields and the shipped YAMLs.

    python -m tests.docs.config_reference > docs/CONFIG.md

A key without an explanation is an error.
"""

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from models.stages.base import RunConfig
from models.stages.registry import STAGES
from utils.config import ConfigModel, read_merged, section_of

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KINDS = {"published": CONFIGS, "sample": CONFIGS / "sample"}
HEAD = """# Every key of every config

Generated from the models beside the code and from `configs/`; do not edit it, but run

    python -m tests.docs.config_reference > docs/CONFIG.md

*Default* is what the code has. *Published* and *sample* are what `configs/` and `configs/sample/` say, with
what they take over from their base; where files differ, each value is followed by those that have it. A
file with `base: OTHER.yaml` holds only what differs from that one. On the command line `key.sub=value`
overrides a key: `training.lr=1e-4`, `training.milestones=[100,200]`, `checkpoint=null`.
"""


class Section(NamedTuple):
    """One model at one place: the path of keys to it, and the stages that have it there."""

    path: str
    cls: type[ConfigModel]
    stages: tuple[str, ...]


def sections(stages: Mapping[str, type[RunConfig]]) -> list[Section]:
    """All sections, in the order of the stages' fields; stages that share a model share a section."""
    found: dict[tuple[str, type[ConfigModel]], list[str]] = {}
    for name, cls in stages.items():
        for path, part in _parts(cls, ""):
            found.setdefault((path, part), []).append(name)
    return [Section(path, cls, tuple(names)) for (path, cls), names in found.items()]


def _parts(cls: type[ConfigModel], path: str) -> Iterator[tuple[str, type[ConfigModel]]]:
    """The model and the ones in it; what a stage inherits from RunConfig is a section of its own."""
    if issubclass(cls, RunConfig):
        for base in reversed(cls.__mro__):
            if issubclass(base, ConfigModel) and own_fields(base):
                yield path, base
    else:
        yield path, cls
    for name, part in _nested(cls):
        yield from _parts(part, f"{path}{name}.")


def own_fields(cls: type[ConfigModel]) -> dict[str, FieldInfo]:
    """The fields that a model declares itself, sections left out; of a section, inherited ones too."""
    inherited: set[str] = set()
    if issubclass(cls, RunConfig):
        bases = [base for base in cls.__mro__[1:] if issubclass(base, ConfigModel)]
        inherited = {name for base in bases for name in base.model_fields}
    apart = inherited | {name for name, _ in _nested(cls)}
    return {name: field for name, field in cls.model_fields.items() if name not in apart}


def _nested(cls: type[ConfigModel]) -> list[tuple[str, type[ConfigModel]]]:
    found = [(name, section_of(cls, name)) for name in cls.model_fields]
    return [(name, section) for name, section in found if section is not None]


def described(cls: type[ConfigModel]) -> dict[str, str]:
    """The explanation of each field of a model, inherited ones included, each on one line.

    Raises:
        ValueError: if a field, sections included, has none.
    """
    bare = [name for name, field in cls.model_fields.items() if not field.description]
    if bare:
        raise ValueError(f"{cls.__name__} does not explain: {', '.join(bare)} (a string below the field)")
    return {name: " ".join((field.description or "").split()) for name, field in cls.model_fields.items()}


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
            part = part.get(step) or {}
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
    for name, field in keys.items():
        default = "required" if field.is_required() else shown(field.default)
        cells = [f"`{section.path}{name}`", texts[name], kind_of(schema[name]), default]
        cells += [_values(named, section.path, name) for named in configs.values()]
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
        kind: {path.stem: read_merged(path) for path in sorted(folder.glob("*.yaml"))}
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
