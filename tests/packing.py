"""Golden arrays in little space, without losing a bit: pack and unpack .npz files of tests/golden.

A packed file holds byte planes (the first bytes of all numbers, then the second ones, ...), which compress
better than the numbers themselves, and an index of `Entry` rows in JSON. Each array is stored as the
difference to a base array of another file, where it has one, and after that as differences along an axis,
where the numbers are smooth. Differences are those of the numbers' bits, modulo their size, so unpacking
restores every bit.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Loader = Callable[[str], Mapping[str, np.ndarray]]
INDEX = "index"


class Entry(NamedTuple):
    """How one array is stored.

    Attributes:
        key: its name.
        dtype: its type, as numpy writes it.
        shape: its shape.
        base: `FILE:KEY` of the array whose leading rows are subtracted, or None; `:KEY` for an
            earlier array of this file.
        axis: along which differences are taken.
        order: how often; 0 for none.
        text: the strings of an array of strings, which has no planes.
    """

    key: str
    dtype: str
    shape: list[int]
    base: str | None = None
    axis: int = 0
    order: int = 0
    text: list[str] | None = None


def sample(array: np.ndarray, number: int) -> np.ndarray:
    """Return up to twice `number` values of an array (..., ), spread over all its axes: (N,)."""
    step = max(1, array.size // number)
    while math.gcd(step, array.size) > 1:
        step -= 1
    return np.asarray(array).reshape(-1)[::step].copy()


def pack(arrays: Mapping[str, np.ndarray], bases: Mapping[str, str], load: Loader) -> Arrays:
    """Return the content of a packed file.

    Args:
        arrays: the arrays by name.
        bases: the base `FILE:KEY` of those that have one.
        load: returns the arrays of another packed file.
    """
    entries, planes, known = [], {}, _with_own(arrays, load)
    for key, array in arrays.items():
        entry = Entry(key, array.dtype.str, list(array.shape))
        if array.dtype.kind == "U":
            entries.append(entry._replace(text=array.ravel().tolist()))
            continue
        bits = _to_bits(array)
        if key in bases:
            entry = entry._replace(base=bases[key])
            bits = bits - _to_bits(_base(bases[key], array.shape, known))
        entry = entry._replace(**_best_differences(bits))
        entries.append(entry)
        planes.setdefault(f"planes{array.itemsize}", []).append(_to_planes(_differences(bits, entry)))
    index = json.dumps([[*entry] for entry in entries], separators=(",", ":"))
    return {
        INDEX: np.frombuffer(index.encode(), np.uint8),
        **{name: np.concatenate(parts, axis=1) for name, parts in planes.items()},
    }


def unpack(content: Mapping[str, np.ndarray], load: Loader) -> Arrays:
    """Return the arrays of a packed file's content, in their order; `load` as in `pack`."""
    arrays: Arrays = {}
    place: dict[int, int] = {}
    known = _with_own(arrays, load)
    for row in json.loads(bytes(content[INDEX])):
        entry = Entry(*row)
        if entry.text is not None:
            arrays[entry.key] = np.array(entry.text, entry.dtype).reshape(entry.shape)
            continue
        dtype = np.dtype(entry.dtype)
        start, number = place.get(dtype.itemsize, 0), int(np.prod(entry.shape))
        place[dtype.itemsize] = start + number
        bits = _from_planes(content[f"planes{dtype.itemsize}"][:, start : start + number])
        bits = bits.reshape(entry.shape)
        for _ in range(entry.order):
            bits = np.cumsum(bits, axis=entry.axis, dtype=bits.dtype)
        if entry.base is not None:
            bits = bits + _to_bits(_base(entry.base, tuple(entry.shape), known))
        arrays[entry.key] = _from_bits(bits, dtype)
    return arrays


def write(path: Path, content: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an .npz file compressed by LZMA, which `numpy.load` reads as any other."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for key, array in content.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue(), zipfile.ZIP_LZMA)


def _with_own(arrays: Mapping[str, np.ndarray], load: Loader) -> Loader:
    return lambda name: load(name) if name else arrays


def _base(name: str, shape: tuple[int, ...], load: Loader) -> np.ndarray:
    file, key = name.split(":")
    return load(file)[key][: shape[0]] if shape else load(file)[key]


def _unsigned(itemsize: int) -> np.dtype:
    return np.dtype(f"<u{itemsize}")


def _to_bits(array: np.ndarray) -> np.ndarray:
    """Unsigned numbers in the order of the array's numbers, so that near numbers have near bits."""
    bits = np.ascontiguousarray(array).view(_unsigned(array.itemsize)).reshape(array.shape)
    if array.dtype.kind != "f":
        return bits
    sign = np.array(1 << (8 * array.itemsize - 1), bits.dtype)
    return np.where(bits & sign, ~bits, bits | sign)


def _from_bits(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        sign = np.array(1 << (8 * dtype.itemsize - 1), bits.dtype)
        bits = np.where(bits & sign, bits & ~sign, ~bits)
    return np.ascontiguousarray(bits).view(dtype).reshape(bits.shape)


def _differences(bits: np.ndarray, entry: Entry) -> np.ndarray:
    for _ in range(entry.order):
        bits = np.diff(bits, axis=entry.axis, prepend=np.zeros_like(bits.take([0], entry.axis)))
    return bits


def _best_differences(bits: np.ndarray) -> dict[str, int]:
    """The axis and order that leave the smallest numbers; none for few numbers."""
    best = {"axis": 0, "order": 0}
    if bits.size < 256 or bits.dtype.itemsize == 1:
        return best
    least = _size(bits)
    for axis in range(bits.ndim):
        for order in (1, 2, 3):
            entry = Entry("", "", [], axis=axis, order=order)
            size = _size(_differences(bits, entry))
            if size < 0.98 * least:
                least, best = size, {"axis": axis, "order": order}
    return best


def _size(bits: np.ndarray) -> float:
    """Bits that the numbers need, roughly: the mean logarithm of their size."""
    return float(np.log2(_fold(bits).astype(np.float64) + 1).mean())


def _fold(bits: np.ndarray) -> np.ndarray:
    """Small differences of either sign -> small unsigned numbers: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    one, top = np.array(1, bits.dtype), np.array(8 * bits.dtype.itemsize - 1, bits.dtype)
    return (bits << one) ^ (bits >> top) * np.iinfo(bits.dtype).max


def _unfold(folded: np.ndarray) -> np.ndarray:
    one = np.array(1, folded.dtype)
    return (folded >> one) ^ (folded & one) * np.iinfo(folded.dtype).max


def _to_planes(bits: np.ndarray) -> np.ndarray:
    size = bits.dtype.itemsize
    return np.ascontiguousarray(_fold(bits).reshape(-1).view(np.uint8).reshape(-1, size).T)


def _from_planes(planes: np.ndarray) -> np.ndarray:
    return _unfold(np.ascontiguousarray(planes.T).reshape(-1).view(_unsigned(len(planes))))
