"""Published `.pt` files: recognise them, read them safely, check their tensors, write them.

Source: a published file is `torch.save({'model': state_dict, 'config': EasyDict, 'epoch': int})`, keys
prefixed `module.`, in torch's zip format or in the older one. It is read by torch's weights-only unpickler,
which builds tensors and plain containers. `easydict.EasyDict` is neither imported nor needed: it is read as
an OrderedDict, which holds the same items. Any other class or function in the file is refused by name.
"""

import os
import pickle
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.published.names import HALVES, MASK, PARTS, Table

DOCUMENT = "docs/PUBLISHED_WEIGHTS.md"
_OLD_FORMAT = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled: how old files begin
)
_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE")
_DEPTH = 32  # containers in containers; a file may hold one that contains itself
_DAMAGED = (
    RuntimeError, EOFError, OSError, KeyError, IndexError, ValueError, TypeError, AttributeError,
    AssertionError, OverflowError, MemoryError, RecursionError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


class Published(NamedTuple):
    """Content of a published file.

    Attributes:
        path: of the file.
        kind: `memory`, `gpt` or `actor_critic`.
        state: tensors under their published names, without the prefix `module.`.
        config: the published config as plain containers; empty if the file has none.
        epoch: of the weights; 0 if the file does not say.
    """

    path: Path
    kind: str
    state: dict[str, Tensor]
    config: dict[str, Any]
    epoch: int


def is_published(path: Path) -> bool:
    """Whether to read a file as a published one: a torch file that does not begin as our checkpoints do.

    A file that is missing, or no torch file at all, is not one: reading ours says what is wrong.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            return True
    try:
        with zipfile.ZipFile(path) as archive:
            inner = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            content = b"" if inner is None else archive.read(inner)
        first = next((a for op, a, _ in pickletools.genops(content) if op.name in _STRINGS), None)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return False
    return inner is not None and first != "format"


def read_published(path: Path) -> Published:
    """Reads a published file onto the CPU. Which sizes its network has is checked by `check_form`.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: in one line that names the file, if it is damaged, names a class or function that is
            neither a tensor's nor a plain container's, or holds no published network.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"published checkpoint {path} is missing; {DOCUMENT} says which files there are"
        )
    content = _load(path)
    if isinstance(content, Mapping) and "format" in content and "stage" in content:
        raise ValueError(f"{path} is a checkpoint of this project, not a published one")
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        has = (
            ", ".join(map(repr, list(content)[:5]))
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise ValueError(
            f"{path} is no published checkpoint: those hold a dict with 'model', this holds {has}"
        )
    state: dict[str, Tensor] = {}
    for key, value in content["model"].items():
        name = key.removeprefix("module.") if isinstance(key, str) else repr(key)
        if not isinstance(value, Tensor):
            raise ValueError(f"{path} holds a {type(value).__name__} under model[{key!r}], not a tensor")
        if name in state:
            raise ValueError(f"{path} holds {name!r} twice, with and without the prefix 'module.'")
        state[name] = value.detach()
    try:
        config = _plain(content.get("config", {}))
    except ValueError as error:
        raise ValueError(f"{path}: its config holds {error}") from None
    epoch = content.get("epoch", 0)
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise ValueError(f"{path}: its epoch is {epoch!r}, not a number of epochs")
    return Published(path, _kind(path, state), state, config if isinstance(config, dict) else {}, epoch)


def _load(path: Path) -> Any:
    """The file's content: tensors, plain containers, and OrderedDicts in place of EasyDicts."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                torn = archive.testzip()  # torch itself compares no checksum
            if torn is not None:
                raise ValueError(f"{torn} in it fails its checksum")
        with torch.serialization.safe_globals([(OrderedDict, "easydict.EasyDict")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        named = re.search(r"GLOBAL (\S+) (?:was|whose)", text)
        if named:
            name = named[1] if "." in named[1] else f"builtins.{named[1]}"  # torch leaves `builtins.` out
            raise ValueError(
                f"{path} is refused: it names {name}, and nothing but tensors and plain containers is read "
                "from untrusted files"
            ) from None
        lines = text.removeprefix("Weights only load failed. ").strip().split("\n")
        detail = next((line for line in reversed(lines) if "WeightsUnpickler error" in line), lines[0])
        detail = detail.split("WeightsUnpickler error:")[-1].strip() or "an unknown instruction"
        raise ValueError(f"{path} is damaged or refused: {detail}") from None
    except _DAMAGED as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is damaged ({reason}); download or copy it again") from None


def _plain(value: Any, depth: int = 0) -> Any:
    """The value as dicts, lists, tuples, text and numbers.

    Raises:
        ValueError: saying what else it holds.
    """
    if depth > _DEPTH:
        raise ValueError(f"containers more than {_DEPTH} deep")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner, depth + 1) for inner in value)
    raise ValueError(f"a {type(value).__name__}")


def _kind(path: Path, state: Mapping[str, Tensor]) -> str:
    parts = {key.split(".")[0] for key in state}
    if parts & HALVES.keys():
        return "memory"
    if parts.intersection(PARTS):
        return "actor_critic" if "critic_net" in parts else "gpt"
    begin = f"its keys begin with {', '.join(sorted(parts)[:5])}" if parts else "it has no tensors"
    raise ValueError(f"{path} holds no published network ({', '.join([*HALVES, *PARTS])}): {begin}")


def check_form(published: Published, table: Table, what: str) -> None:
    """Compares a file's tensors with the table of its network.

    Args:
        published: the file.
        table: its keys and shapes.
        what: the network, for the message.

    Raises:
        ValueError: in one line: missing and unknown keys, wrong shapes and types, masks that are not those of
            their blocks, weights that are not finite; the first few of each, and how many.
    """
    state = published.state
    both = {key: entry.shape for key, entry in table.items() if key in state}
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {shape}"
        for key, shape in both.items()
        if tuple(state[key].shape) != shape
    ]
    kinds = [
        f"{key} is {state[key].dtype}"
        for key in both
        if state[key].dtype != torch.float32 or state[key].layout != torch.strided or state[key].is_meta
    ]
    problems = [
        _some("missing", [key for key in table if key not in state]),
        _some("unknown", [key for key in state if key not in table]),
        _some("of another shape", shapes),
        _some("not plain float32", kinds),
    ]
    if not any(problems):
        masks = [key for key in table if key.endswith(MASK)]
        masks = [key for key in masks if not torch.equal(state[key], table[key].mask)]
        broken = [key for key in table if not bool(torch.isfinite(state[key]).all())]
        problems = [_some("not the mask of its block", masks), _some("not finite", broken)]
    if any(problems):
        raise ValueError(f"{published.path} is no published {what}: {'; '.join(p for p in problems if p)}")


def _some(what: str, items: list[str], most: int = 3) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)} {what} ({', '.join(items[:most])}{more})"


def write_published(content: dict[str, Any], path: Path) -> None:
    """Writes {'model', 'config', 'epoch'} as the published system does, beside its place, and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
