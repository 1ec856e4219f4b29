"""Reading other people's .npy and .pkl files without trusting them: containers, numbers, text, arrays."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not read from untrusted files")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_pickle(content: bytes) -> Any:
    """The object in a pickle.

    Raises:
        ValueError: if it is damaged, or names anything but containers, numbers, text and arrays.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"it is damaged or refused: {error}") from None
    except (
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        ImportError,
        MemoryError,
    ) as error:
        raise ValueError(f"it is damaged: {str(error) or type(error).__name__}") from None


def load_npy(path: Path) -> Any:
    """An array, or the one object (such as a dict) that was saved as if it were an array.

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
        content = load_pickle(file.read())
    if isinstance(content, np.ndarray) and content.dtype.hasobject and content.size == 1:
        return content.reshape(-1)[0]
    raise ValueError(f"it holds {type(content).__name__} of objects; an array or one dict is expected")
