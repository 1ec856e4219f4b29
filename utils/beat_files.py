"""Beats of songs in tables and arrays: the only reader, for `--beats` of the preparation and for metrics.

A JSON table has names of songs and, for each, a list of beats, or an object with `beats` and, optionally,
`fps` (of frames), `frames` (the song's length in frames) or `seconds` (its length in seconds, which also says
that its beats are in seconds). Beats are frame indices, flags per frame, or times in seconds.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.dance import beat_indices
from utils.files import one_number
from utils.recording import checked_rate

INTERVALS = (0.15, 4.0)  # seconds between beats: 400 to 15 beats per minute
_ENOUGH = 4  # beats whose intervals tell a unit


class Beats(NamedTuple):
    """Beats of a song: `times` in seconds, ascending, and its length in seconds, None if it is not known."""

    times: np.ndarray
    seconds: float | None


def beat_times(beats: Any, fps: float, seconds: bool | None = None) -> np.ndarray:
    """Ascending times in seconds of beats that are frame indices, flags per frame, or times in seconds.

    Whole numbers are frames and others are seconds, if the beats are then 0.15 to 4 s apart, in the median;
    if only the other unit makes them so, it is the other.

    Args:
        beats: of a song.
        fps: rate of frames, Hz.
        seconds: whether numbers are seconds; None tells by the numbers.

    Raises:
        ValueError: if they are not ascending numbers >= 0, or neither unit fits.
    """
    numbers = np.asarray(beats)
    if numbers.ndim == 2 and 1 in numbers.shape:
        numbers = numbers.reshape(-1)
    plain = numbers.ndim == 1 and numbers.dtype.kind in "iuf" and np.isfinite(numbers).all()
    if not plain or not len(numbers) or (numbers < 0).any() or _are_flags(numbers):
        return beat_indices(numbers, 2**31) / fps
    times = np.unique(numbers.astype(np.float64))
    if seconds is None:
        seconds = _in_seconds(times, fps)
    return times if seconds else times / fps


def read_beat_table(path: Path, fps: float) -> dict[str, Beats]:
    """Beats by name of a JSON table.

    Args:
        path: of the table.
        fps: rate in Hz of frames, where the table does not say it.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: naming the file and the song, if an entry has another form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} with the beats of the songs does not exist")
    try:
        table = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from None
    if not isinstance(table, Mapping):
        raise ValueError(f"{path}: name -> beats is expected, got a {type(table).__name__}")
    found = {}
    for name, entry in table.items():
        try:
            found[name] = _entry(entry, fps)
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            if isinstance(entry, Mapping):
                message = f"{name} is not {{frames, beats}} with beats below frames ({reason})"
            else:
                message = f"name -> beat frames is expected, or seconds ({name}: {reason})"
            raise ValueError(f"{path}: {message}") from None
    return found


def _entry(entry: Any, fps: float) -> Beats:
    if not isinstance(entry, Mapping):
        return Beats(beat_times(entry, fps), None)
    rate = checked_rate(one_number(entry["fps"], "fps")) if "fps" in entry else fps
    if "seconds" in entry:
        length = one_number(entry["seconds"], "seconds")
        times = beat_times(entry["beats"], rate, seconds=True)
    else:
        length = one_number(entry["frames"], "frames") / rate if "frames" in entry else math.inf
        times = beat_times(entry["beats"], rate)
    if length <= 0 or (len(times) and times[-1] >= length):
        raise ValueError(f"a beat at {times[-1]:.2f} s of {length:.2f}" if len(times) else f"{length:.2f} s")
    return Beats(times, None if math.isinf(length) else length)


def _are_flags(numbers: np.ndarray) -> bool:
    return bool(np.isin(numbers, (0, 1)).all() and (len(numbers) < 2 or (np.diff(numbers) <= 0).any()))


def _in_seconds(times: np.ndarray, fps: float) -> bool:
    """Whether ascending numbers are seconds and not frames."""
    whole = bool((times == np.round(times)).all())
    if len(times) < 2:
        if not whole:
            raise ValueError(
                f"a single beat at {times[0]:g} may be a frame or a second; give a whole frame, or "
                "{seconds: LENGTH, beats: [...]}"
            )
        return False
    apart = float(np.median(np.diff(times)))
    fits = {unit: INTERVALS[0] <= apart / rate <= INTERVALS[1] for unit, rate in ((0, fps), (1, 1.0))}
    if fits[0] != fits[1]:
        return fits[1]
    if fits[0] or len(times) < _ENOUGH:
        return not whole
    thousandths = " (milliseconds: divide by 1000)" if INTERVALS[0] <= apart / 1000 <= INTERVALS[1] else ""
    raise ValueError(
        f"beats {apart:g} apart are neither frames at {fps:g} fps ({apart / fps:.3g} s) nor seconds"
        + thousandths
    )
