"""YAML -> frozen dataclass, checked in one place, before any data is read.

The dataclasses live beside the code they configure; pydantic checks them. Every unknown, double, missing,
ill-typed or out-of-range key is named in one message, with the nearest valid name.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be used; the message names every wrong key."""


def config(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose unknown keys are errors."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice; plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise ConfigError(f"key {key!r} is given twice, in lines {seen[key]} and {line}; keep one")
            seen[key] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: if it is not YAML, or not a mapping, or holds a key twice.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no config file {path}; the ones that come with the project are in configs/"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, got {type(content).__name__}")
    return content


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of the mapping with `key.sub=value` overrides set; values are YAML.

    Raises:
        ConfigError: if an override has no `=`, an unreadable value, or goes through something that is no
            section.
    """
    content = yaml.safe_load(yaml.safe_dump(content))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form key.sub=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None
        *sections, last = key.split(".")
        target = content
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
        target[last] = value
    return content


def check(cls: type[T], content: dict[str, Any], source: str) -> T:
    """The mapping as an instance of a config dataclass.

    Raises:
        ConfigError: naming every wrong key.
    """
    try:
        return TypeAdapter(cls).validate_python(content)
    except ValidationError as error:
        lines = [_describe(cls, item) for item in error.errors()]
        raise ConfigError(f"{source} has {len(lines)} wrong key(s):\n  " + "\n  ".join(lines)) from None


def _describe(cls: type, item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        valid = _fields_at(cls, path[:-1])
        near = difflib.get_close_matches(path[-1], valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(sorted(valid))}"
        return f"{where}: unknown key; {hint}"
    if item["type"] in ("missing", "missing_argument"):
        return f"{where}: missing"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _fields_at(cls: type, path: Sequence[str]) -> list[str]:
    for part in path:
        hint = typing.get_type_hints(cls).get(part)
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        cls = next((option for option in options if dataclasses.is_dataclass(option)), cls)
    return [field.name for field in dataclasses.fields(cls)]


def to_plain(instance: Any) -> dict[str, Any]:
    """The config as plain containers, ready for YAML or a checkpoint."""
    return TypeAdapter(type(instance)).dump_python(instance, mode="json")


def write_yaml(instance: Any, path: Path) -> None:
    """Writes the resolved config."""
    path.write_text(yaml.safe_dump(to_plain(instance), sort_keys=False, allow_unicode=True), encoding="utf-8")


__all__ = ["ConfigError", "apply_overrides", "check", "config", "read_yaml", "to_plain", "write_yaml"]
