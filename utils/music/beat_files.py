"""Beat times from files of annotations.

.json          a list of seconds, or an object that holds one under `beats`
anything else  text with a time in seconds at the start of each line, the rest of which is passed over: the
               .beats and .txt files of mir_eval and of beat corpora, and label tracks exported by Audacity.
               Empty lines are passed over, as are comments (#) and the lines in which Audacity writes the
               frequencies of a label, which begin with a backslash.
"""

import json
import math
from pathlib import Path

import numpy as np

_FORMS = "a time in seconds per line (mir_eval, Audacity labels) or a JSON list"


def read_beat_times(path: str | Path) -> np.ndarray:
    """Beats (N,) in seconds, ascending, of a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, the line or entry and what is expected, if it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file of beats {path}; check the path and the spelling, expected {_FORMS}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text ({error}); expected {_FORMS}") from None
    found = _of_json(path, text) if path.suffix.lower() == ".json" else _of_lines(path, text)
    if not found:
        raise ValueError(f"{path} holds no beats; expected {_FORMS}")
    before = -math.inf
    for where, time in found:
        if not math.isfinite(time) or time < 0:
            raise ValueError(f"{path}, {where}: {time:g} is no time of a beat; expected seconds from 0 on")
        if time <= before:
            raise ValueError(
                f"{path}, {where}: {time:g} s does not come after {before:g} s; expected beats in ascending "
                "order, each once"
            )
        before = time
    return np.array([time for _, time in found])


def _of_lines(path: Path, text: str) -> list[tuple[str, float]]:
    """Place and time of each beat of a text."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        first, *_ = line.split(maxsplit=1) or [""]
        if not first or first[0] in "#\\":
            continue
        try:
            found.append((f"line {number}", float(first)))
        except ValueError:
            cure = "; write decimals with a point" if "," in first else ""
            raise ValueError(
                f"{path}, line {number}: {first!r} is no number; expected {_FORMS}{cure}"
            ) from None
    return found


def _of_json(path: Path, text: str) -> list[tuple[str, float]]:
    """Place and time of each beat of a JSON file."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected a list of seconds") from None
    times = content.get("beats") if isinstance(content, dict) else content
    if not isinstance(times, list):
        kind = "an object without a list `beats`" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {kind}; expected a list of seconds, or one under `beats`")
    for place, time in enumerate(times, 1):
        if isinstance(time, bool) or not isinstance(time, int | float):
            raise ValueError(f"{path}, entry {place}: {time!r} is no number; expected a list of seconds")
    return [(f"entry {place}", float(time)) for place, time in enumerate(times, 1)]
