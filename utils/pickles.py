"""Reads other people's pickles without trusting them: plain containers, numbers, numpy arrays, nothing else.

A pickle may name any function of any module and have it called while it is read. Here every name goes
through a list; what is not on it is refused by name. Arrays of `chumpy` (in SMPL's files) and sparse
matrices of `scipy` are not imported: they come back as `Opaque` objects that hold the state the file gives
them.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np


class Opaque:
    """An object of a class that is not imported: only its name and what the pickle says it holds.

    Attributes:
        class_name: e.g. chumpy.ch.Ch.
        state: the attributes in the file; arrays, numbers, containers.
    """

    class_name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"{self.class_name} holds a {type(state).__name__}, not attributes")
        self.state = state


def _empty_array(subtype: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Stands for numpy's _reconstruct: no subclasses, and no memory until the data itself is there."""
    return np.empty(0, np.int8)


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order).copy()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a numpy number that is none")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes into old pickle protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
}
for _builtins in ("builtins", "__builtin__"):
    _ALLOWED |= {(_builtins, kind.__name__): kind for kind in (object, set, frozenset, bytearray)}
for _core in ("numpy.core", "numpy._core"):  # renamed in numpy 2
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _empty_array
    _ALLOWED[_core + ".multiarray", "scalar"] = _scalar
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _array_from_buffer


class _RefusedError(pickle.UnpicklingError):
    """The pickle may be whole, but asks for more than data."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, opaque: tuple[str, ...]) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote SMPL's
        self.opaque = opaque

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.split(".")[0] in self.opaque:
            return type("Opaque", (Opaque,), {"class_name": f"{module}.{name}"})
        if (module, name) == ("copy_reg", "_reconstructor") and self.opaque:
            return _new_opaque
        raise _RefusedError(f"it names {module}.{name}, which is not read from untrusted files")


def _new_opaque(kind: type, base: Any, state: Any) -> Opaque:
    """Stands for copyreg's _reconstructor, by which Python 2 wrote objects."""
    if not (isinstance(kind, type) and issubclass(kind, Opaque)):
        raise _RefusedError("it rebuilds an object that is not read from untrusted files")
    return kind()


def load_pickle(content: bytes, where: str, opaque: tuple[str, ...] = ()) -> Any:
    """Unpickles plain containers, numbers, text and numpy arrays.

    Args:
        content: the bytes of the file.
        where: the file's name, for the messages.
        opaque: packages whose objects come back as `Opaque` instead of being refused.

    Raises:
        ValueError: naming the file, when it is empty, damaged, or names anything beyond these.
    """
    if not content:
        raise ValueError(f"{where} is empty (0 bytes)")
    try:
        return _Unpickler(io.BytesIO(content), opaque).load()
    except _RefusedError as error:
        raise ValueError(f"{where} is refused: {error}") from None
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
        OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"{where} is damaged: {str(error) or type(error).__name__}") from None
    except (MemoryError, ImportError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: {type(error).__name__}") from None


def load_npy(path: Path, where: str) -> Any:
    """An array, or the one object (such as a dict) that was saved as if it were an array.

    Args:
        path: the file.
        where: its name, for the messages.

    Raises:
        ValueError: if it is damaged, or holds what `load_pickle` refuses.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        _, _, dtype = header(file)
        if not dtype.hasobject:
            return np.load(path, allow_pickle=False)
        content = load_pickle(file.read(), where)
    if isinstance(content, np.ndarray) and content.dtype.hasobject and content.size == 1:
        return content.reshape(-1)[0]
    raise ValueError(f"{where} holds {type(content).__name__} of objects; an array or one dict is expected")
