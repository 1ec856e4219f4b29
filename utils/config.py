"""YAML -> frozen pydantic model, checked in one place, before any data is read.

The models lie beside the code that they configure; each key is explained once, by the string below its field.
Every unknown, duplicate, missing, ill-typed or out-of-range key is named in one message, with the nearest
valid name. A YAML file may name another one with `base: PATH` and hold only what differs from it.
"""

import copy
import difflib
import logging
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

log = logging.getLogger(__name__)


class ConfigError(ValueError):
    """A config that cannot be used; the message names every wrong key."""


class ConfigModel(BaseModel):
    """A section of a config: frozen; unknown keys are errors.

    Former names are read, with a line that gives the present one, in configs and checkpoints alike: `renamed`
    maps former keys to present ones, `renamed_values` keys to former values and the present ones. `removed`
    maps former keys to the value that all runs have now; `...` accepts any. `instead` says what replaces a
    removed key's other values. Checkpoints may hold any: their runs stay readable.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )
    renamed: ClassVar[Mapping[str, str]] = {}
    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    removed: ClassVar[Mapping[str, Any]] = {}
    instead: ClassVar[Mapping[str, str]] = {}


Model = TypeVar("Model", bound=ConfigModel)


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
    """The mapping in a YAML file as it stands there, `base` included.

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


def read_layers(path: Path) -> list[dict[str, Any]]:
    """The mappings of a YAML file and of the files it is based on, the most basic first.

    Raises:
        FileNotFoundError: if a file is missing.
        ConfigError: as `read_yaml`, and if files are based on each other in a circle.
    """
    layers: list[dict[str, Any]] = []
    seen: list[Path] = []
    while True:
        if path.resolve() in seen:
            raise ConfigError(f"{path} is based on itself (key base)")
        seen.append(path.resolve())
        content = read_yaml(path)
        base = content.pop("base", None)
        layers.insert(0, content)
        if base is None:
            return layers
        if not isinstance(base, str):
            raise ConfigError(f"{path}: base must be the path of a YAML file, got {base!r}")
        if not (path.parent / base).is_file():
            raise FileNotFoundError(f"{path}: its base {path.parent / base} does not exist")
        path = path.parent / base


def read_merged(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file and its bases together; errors as of `read_layers`."""
    return merge(read_layers(path))


def read_overrides(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """`key.sub=value` overrides as nested mappings; values are YAML.

    Raises:
        ConfigError: if an override has no `=` or an unreadable value.
    """
    layers = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form key.sub=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"override {override!r}: {text!r} is not a YAML value") from None
        for section in reversed(key.split(".")):
            value = {section: value}
        layers.append(value)
    return layers


def merge(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One mapping of several: sections are merged, values replaced; of two, the later one counts."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                before = merged.get(key)
                merged[key] = merge([before if isinstance(before, Mapping) else {}, value])
            else:
                merged[key] = copy.deepcopy(value)
    return merged


def current_keys(cls: type[ConfigModel], content: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """A copy of a config's mapping in which former keys and values have their present names.

    Args:
        cls: the model of the config.
        content: may be partial.
        source: file or checkpoint that is named in the log; empty is silent.

    Raises:
        ConfigError: if a former and a present name of a key are both given, or a key that was removed has a
            value that no run can have any more.
    """
    return _current_keys(cls, content, source, "")


def _current_keys(
    cls: type[ConfigModel], content: Mapping[str, Any], source: str, path: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = cls.renamed.get(key, key)
        if name != key:
            if name in content:
                both = f"{path}{key} is now {path}{name}; both are given, keep the latter"
                raise ConfigError(f"{source}: {both}")
            if source:
                log.info("%s: the key %s%s is now %s%s", source, path, key, path, name)
        if key in cls.removed:
            if source and cls.removed[key] not in (..., value):
                cure = f"set {path}{cls.instead[key]} instead" if key in cls.instead else "remove it"
                raise ConfigError(
                    f"{source}: the key {path}{key} is gone: it is always {cls.removed[key]!r} now, "
                    f"got {value!r}; {cure}"
                )
            if source:
                log.info("%s: the key %s%s is gone; remove it", source, path, key)
            continue
        present = cls.renamed_values.get(name, {}).get(value) if isinstance(value, str) else None
        if present is not None:
            if source:
                log.info("%s: the value %s of %s%s is now %s", source, value, path, name, present)
            value = present
        section = section_of(cls, name)
        if section is not None and isinstance(value, Mapping):
            value = _current_keys(section, value, source, f"{path}{name}.")
        found[name] = value
    return found


def section_of(cls: type[ConfigModel], key: str) -> type[ConfigModel] | None:
    """The model of a key that is a section, else None."""
    field = cls.model_fields.get(key)
    if field is None:
        return None
    kind = field.annotation
    is_union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    for option in typing.get_args(kind) if is_union else (kind,):
        if isinstance(option, type) and issubclass(option, ConfigModel):
            return option
    return None


def keys_of(cls: type[ConfigModel], prefix: str = "") -> Iterator[str]:
    """All keys of a config, `section.key`, sections resolved."""
    for key in cls.model_fields:
        section = section_of(cls, key)
        if section is None:
            yield prefix + key
        else:
            yield from keys_of(section, f"{prefix}{key}.")


def check(cls: type[Model], content: Mapping[str, Any], source: str) -> Model:
    """The mapping as an instance of a config model; former keys are taken under their present names.

    Raises:
        ConfigError: naming every wrong key.
    """
    try:
        return cls.model_validate(current_keys(cls, content, source))
    except ValidationError as error:
        lines = [_describe(cls, item) for item in error.errors()]
        raise ConfigError(f"{source} has {len(lines)} wrong key(s):\n  " + "\n  ".join(lines)) from None


def _describe(cls: type[ConfigModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        valid = _keys_at(cls, path[:-1])
        near = difflib.get_close_matches(path[-1], valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(sorted(valid))}"
        return f"{where}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _keys_at(cls: type[ConfigModel], path: Sequence[str]) -> list[str]:
    for part in path:
        cls = section_of(cls, part) or cls
    return list(cls.model_fields)


def to_plain(instance: ConfigModel) -> dict[str, Any]:
    """The config as plain containers, ready for YAML or a checkpoint."""
    return instance.model_dump(mode="json")


def write_yaml(instance: ConfigModel, path: Path) -> None:
    """Write the resolved config."""
    path.write_text(yaml.safe_dump(to_plain(instance), sort_keys=False, allow_unicode=True), encoding="utf-8")
