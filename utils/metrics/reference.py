"""The real dances everything is compared with: their features, computed once and kept in a .npz file.

Features that others have computed can be the reference, too, so that FID against AIST++ needs no AIST++
motions: a .npz with `names` (n,), `kinetic` (n, 72) and `geometric` (n, 32), as published, each dance whole
and with the root position of frame 0 subtracted.
"""

import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from utils.dance import Dance
from utils.files import DAMAGED_ARRAY, write_beside
from utils.metrics.dances import DanceFeatures, all_features
from utils.metrics.physical import METRICS
from utils.skeleton import SMPL_24

FORMAT = 3  # raised whenever a feature changes, so that older files are refused
FILE_NAME = "reference_features.npz"
MANIFEST = "manifest.json"
MADE_BY = "python extract_aist_features.py --data {root}"

_OUTSIDE = {"kinetic": 72, "geometric": 32}  # features in files of others, and how many there are
_STACKED = ("kinetic", "geometric", "kinetic_corrected", "geometric_corrected")
_RAGGED = ("motion_beats", "motion_times", "music_beats", "speed", "landings", "loudness")


@dataclass(frozen=True)
class Reference:
    """Features of the real set.

    Attributes:
        dances: features of each real dance, whole.
        source: where they come from, for reports.
        key: of the data they were computed from (`data_key`); '' if not from prepared data.
    """

    dances: tuple[DanceFeatures, ...]
    source: str = "given dances"
    key: str = ""

    @classmethod
    def of(
        cls, dances: Sequence[Dance | DanceFeatures], source: str = "given dances", key: str = ""
    ) -> "Reference":
        """Computes the features of whole dances (or takes them as they are).

        Raises:
            ValueError: if there is none, or one is wrong.
        """
        return cls(tuple(all_features(dances)), source, key)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the real dances."""
        return tuple(dance.name for dance in self.dances)

    def stacked(self, feature: str) -> np.ndarray:
        """One feature of all dances, (n, d): kinetic, geometric, kinetic_corrected or geometric_corrected.

        Raises:
            ValueError: if the reference is a file of others, which has no corrected features.
        """
        found = self._stacked[feature]
        if np.isnan(found).any():
            raise ValueError(
                f"{self.source} holds published features only, and protocol corrected needs {feature}; "
                "use protocol bailando, or real dances as the reference"
            )
        return found

    @cached_property
    def _stacked(self) -> dict[str, np.ndarray]:
        return {feature: stack(self.dances, feature) for feature in _STACKED}

    def named(self, names: Iterable[str]) -> list[DanceFeatures]:
        """The real dances of these names, as many as there are."""
        by_name = {dance.name: dance for dance in self.dances}
        return [by_name[name] for name in names if name in by_name]

    def save(self, path: Path) -> None:
        """Writes the features beside `path` and renames them to it."""
        save_features(self.dances, path, self.key)

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> "Reference":
        """Reads features.

        Args:
            path: a .npz file, of ours or with published features of others, or a prepared folder that holds
                one of ours (and then has to be of that very data).
            key: of the data it has to be of; not checked if None.

        Raises:
            FileNotFoundError: naming the command that makes it, if it is missing.
            ValueError: if it is damaged, of another version, or of other data.
        """
        path = Path(path)
        if path.is_dir():
            path, key = path / FILE_NAME, data_key(path)
        again = f"make it anew by: {MADE_BY.format(root=path.parent)}"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; it is made by: {MADE_BY.format(root=path.parent)}")
        dances, own_key = load_features(path, again)
        if key is not None and own_key != key:
            raise ValueError(f"{path} is of other data than {path.parent / MANIFEST} describes; {again}")
        return cls(tuple(dances), str(path), own_key)


def stack(dances: Sequence[DanceFeatures], feature: str) -> np.ndarray:
    """One feature of all dances as (n, d)."""
    return np.stack([getattr(dance, feature) for dance in dances])


def data_key(root: Path) -> str:
    """Identifies prepared data and the version of the features: a hash of its manifest and of `FORMAT`.

    Raises:
        FileNotFoundError: if the folder has no manifest.
    """
    path = Path(root) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; it is made by: python prepare_aistpp_data.py --out {root}"
        )
    return hashlib.sha256(path.read_bytes() + f"features {FORMAT}".encode()).hexdigest()


def save_features(dances: Sequence[DanceFeatures], path: Path, key: str) -> None:
    """Writes features of dances beside `path` and renames them to it."""
    arrays: dict[str, np.ndarray] = {
        "reference_format": np.array(FORMAT),
        "key": np.array(key),
        "name": np.array([dance.name for dance in dances], str),
        "song": np.array([dance.song for dance in dances], str),
        "fps": np.array([dance.fps for dance in dances], np.float64),
        "frames": np.array([dance.frames for dance in dances], np.int64),
        "has_music": np.array([dance.music_beats is not None for dance in dances], bool),
        "physical_names": np.array(list(dances[0].physical), str),
        "physical": np.array([list(dance.physical.values()) for dance in dances], np.float64),
    }
    for feature in _STACKED:
        arrays[feature] = stack(dances, feature)
    for name in _RAGGED:
        lists = [getattr(dance, name) for dance in dances]
        kind = np.float32 if name == "loudness" else int
        lists = [np.zeros(0, kind) if values is None else values for values in lists]
        arrays[name] = np.concatenate(lists)
        arrays[f"{name}_lengths"] = np.array([len(values) for values in lists], np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_beside(path, buffer.getbuffer())


def load_features(path: Path, again: str) -> tuple[list[DanceFeatures], str]:
    """Features and key of a file written by `save_features`, or of one with published features of others.

    Raises:
        ValueError: naming the file and what to do (`again`), if it is damaged or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except DAMAGED_ARRAY as error:
        raise ValueError(f"{path} is damaged ({error}); {again}") from None
    if "reference_format" not in arrays and {"names", *_OUTSIDE} <= arrays.keys():
        return outside_features(arrays, path), ""
    if "reference_format" not in arrays:
        raise ValueError(f"{path} holds no reference features but: {', '.join(list(arrays)[:8])}; {again}")
    if int(arrays["reference_format"]) != FORMAT:
        raise ValueError(
            f"{path} has format {arrays['reference_format']}, this version reads {FORMAT}; {again}"
        )
    physical = arrays["physical_names"].tolist()
    if physical != list(METRICS):
        raise ValueError(
            f"{path} holds the metrics {', '.join(physical)}; this version has {', '.join(METRICS)}; {again}"
        )
    ragged = {name: np.split(arrays[name], np.cumsum(arrays[f"{name}_lengths"])[:-1]) for name in _RAGGED}
    dances = [
        DanceFeatures(
            name=str(name),
            song=str(arrays["song"][row]),
            fps=float(arrays["fps"][row]),
            frames=int(arrays["frames"][row]),
            **{feature: arrays[feature][row] for feature in _STACKED},
            motion_beats=ragged["motion_beats"][row],
            motion_times=ragged["motion_times"][row],
            music_beats=ragged["music_beats"][row] if arrays["has_music"][row] else None,
            speed=ragged["speed"][row],
            landings=ragged["landings"][row],
            loudness=ragged["loudness"][row] if len(ragged["loudness"][row]) else None,
            physical=dict(zip(physical, arrays["physical"][row].tolist(), strict=True)),
        )
        for row, name in enumerate(arrays["name"])
    ]
    return dances, str(arrays["key"])


def outside_features(arrays: Mapping[str, np.ndarray], path: Path) -> list[DanceFeatures]:
    """Dances of which published features alone are known; beats, physical and corrected ones are not.

    Args:
        arrays: `names` (n,), `kinetic` (n, 72) and `geometric` (n, 32).
        path: of the file, for messages.

    Raises:
        ValueError: naming the file, the array and the row, if a shape or a value is wrong, or a name comes
            twice.
    """
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in arrays["names"].reshape(-1)]
    for feature, number in _OUTSIDE.items():
        values = arrays[feature]
        if values.shape != (len(names), number) or values.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: {feature} must be numbers ({len(names)}, {number}), a row for each of `names`, got "
                f"{values.dtype} {values.shape}"
            )
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"{path}: {feature} of {names[row]} must be finite, column {column} is not")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or len(names) < 2:
        problem = f"{twice[0]} comes {names.count(twice[0])} times" if twice else f"there are {len(names)}"
        raise ValueError(f"{path}: `names` must be at least two different names, {problem}")
    unknown = {feature: np.full(number, np.nan) for feature, number in _OUTSIDE.items()}
    return [
        DanceFeatures(
            name=name,
            song="",
            fps=float(SMPL_24.fps),
            frames=0,
            kinetic=arrays["kinetic"][row],
            geometric=arrays["geometric"][row],
            kinetic_corrected=unknown["kinetic"],
            geometric_corrected=unknown["geometric"],
            motion_beats=np.zeros(0, int),
            motion_times=np.zeros(0),
            music_beats=None,
            speed=np.zeros(0, np.float32),
            landings=np.zeros(0),
            loudness=None,
            physical=dict.fromkeys(METRICS, math.nan),
        )
        for row, name in enumerate(names)
    ]
