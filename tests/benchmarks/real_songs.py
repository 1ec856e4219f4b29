"""Dances to any songs, as --dance makes them: do they stand still, follow the beat, and vary?

    python -m tests.benchmarks.real_songs SONG_OR_FOLDER ... --config CONFIG [key=value ...]

A row per song, and one of their means, in which the hold is the longest and `other songs` has the sign test.
Dances that follow no beat score as well with the beats of other songs. Prints the table.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from scipy.stats import binomtest

from models.acceleration import AcceleratedGPT
from models.generation import accelerated
from models.inference.dance import Request, decode, generate_codes
from models.inference.prompts import load_networks, opening_codes
from models.inference.songs import Song, analyse_each, find_songs
from models.stages.base import GPTRunConfig
from models.stages.registry import read_config
from utils.dance import Dance
from utils.metrics.beats import beat_align, mean_speed
from utils.metrics.physical import STILL_SPEED, freezing
from utils.metrics.table import Cell, format_table
from utils.music.audio import decode_audio

LOUD_DB = 15  # music is loud where its level over a second is at most so much below the 95th percentile
WINDOW = 150  # codes in which variety is counted: 20 s, the length of the sample's dances


def loud_frames(samples: np.ndarray, rate: int, fps: float, frames: int) -> np.ndarray:
    """Whether the music is loud in each of so many frames (frames,), silence after its end."""
    hop = rate / fps
    edges = np.minimum((np.arange(frames + 1) * hop).astype(int), len(samples))
    energy = np.diff(np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])[edges]) / hop
    level = 10 * np.log10(uniform_filter1d(energy, round(fps), mode="constant").clip(1e-12))
    return level > np.quantile(level, 0.95) - LOUD_DB


def freezing_where(joints: np.ndarray, frames: np.ndarray, fps: float) -> float:
    """Share of the one-second windows, of those centred on given frames (T,), that `freezing` counts."""
    length = min(len(joints) - 1, round(fps))
    total = np.concatenate([[0.0], np.cumsum(mean_speed(joints, fps) * fps)])
    still = (total[length:] - total[:-length]) / length < STILL_SPEED
    centred = frames[length // 2 :][: len(still)]
    return float(still[centred].mean()) if centred.any() else float("nan")


def holds(codes: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal codes, or of equal pairs: (T',) or (T', 2) -> (number of runs,)."""
    rows = codes.reshape(len(codes), -1)
    changes = np.flatnonzero((rows[1:] != rows[:-1]).any(1)) + 1
    return np.diff(np.concatenate([[0], changes, [len(rows)]]))


def perplexity(codes: np.ndarray) -> float:
    """exp of the entropy of codes (T',), or of pairs (T', 2): in how many kinds they fall evenly."""
    counts = np.unique(codes.reshape(len(codes), -1), axis=0, return_counts=True)[1]
    shares = counts / len(codes)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def variety(codes: np.ndarray) -> dict[str, float]:
    """Perplexity of upper and lower codes and of pairs (T', 2), mean over windows; longest hold of a half."""
    starts = range(0, max(1, len(codes) - WINDOW + 1), WINDOW)
    windows = [codes[start : start + WINDOW] for start in starts]
    found = {"upper": [w[:, 0] for w in windows], "lower": [w[:, 1] for w in windows], "pairs": windows}
    row = {f"variety of {name}": float(np.mean([*map(perplexity, w)])) for name, w in found.items()}
    return {**row, "longest hold": float(max(holds(codes[:, half]).max() for half in (0, 1)))}


def other_songs(dance: Dance, dances: Sequence[Dance]) -> float:
    """Mean BAS of a dance with the beats of each other song, both cut to the shorter one."""
    scores = []
    for other in dances:
        frames = min(len(dance.joints), len(other.joints))
        beats = np.asarray(other.music_beats)
        if other is not dance and (beats < frames).any():
            scores.append(beat_align(dance.joints[:frames], beats[beats < frames]))
    return float(np.mean(scores)) if scores else float("nan")


def rows_of(dances: Sequence[Dance], loud: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Scores of each dance by its name."""
    rows = {}
    for dance in dances:
        assert dance.codes is not None
        rows[dance.name] = {
            "freezing": freezing(dance.joints, dance.fps),
            "freezing, loud": freezing_where(dance.joints, loud[dance.name], dance.fps),
            "speed (m/s)": float(mean_speed(dance.joints, dance.fps).mean() * dance.fps),
            "BAS": beat_align(dance.joints, np.asarray(dance.music_beats)),
            "other songs": other_songs(dance, dances),
            **variety(dance.codes),
        }
    return rows


def table(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Cell]]:
    """The rows, and that of all of them."""
    columns = [*next(iter(rows.values()))]
    values = {column: np.array([row[column] for row in rows.values()]) for column in columns}
    gain = values["BAS"] - values["other songs"]
    better, number = int((gain > 0).sum()), int((gain != 0).sum() - np.isnan(gain).sum())
    last = {column: float(np.nanmean(value)) for column, value in values.items()}
    last["longest hold"] = float(values["longest hold"].max())
    digits = {"longest hold": 0} | dict.fromkeys([c for c in columns if c.startswith("variety")], 1)
    text = {
        name: {column: f"{row[column]:.{digits.get(column, 3)}f}" for column in columns}
        for name, row in {**rows, "all": last}.items()
    }
    if number:
        p = binomtest(better, number, alternative="greater").pvalue
        text["all"]["other songs"] += f" ({better}/{number}, p {p:.2g})"
    return text


def make_dances(config: GPTRunConfig, songs: Sequence[Path]) -> tuple[list[Dance], dict[str, np.ndarray]]:
    """The dances of --dance to songs, and where the music of each is loud."""
    device = torch.device("cpu")
    networks = load_networks(config, device)
    found = [song for song in analyse_each(find_songs(songs).songs, networks) if isinstance(song, Song)]
    names = [song.path.stem for song in found]
    requests = [Request(n, n, song, 1, n, 0) for n, song in zip(names, found, strict=True)]
    gpt: AcceleratedGPT = accelerated(networks.gpt, config.generation)
    codes = generate_codes(gpt, requests, opening_codes(config, networks), None, config, device)
    dances = [
        decode(request, own, networks, config.dance.level, {})[0]
        for request, own in zip(requests, codes, strict=True)
    ]
    loud = {
        dance.name: loud_frames(*decode_audio(song.path), dance.fps, len(dance.joints))
        for dance, song in zip(dances, found, strict=True)
    }
    return dances, loud


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.real_songs", allow_abbrev=False)
    parser.add_argument("songs", nargs="+", help="sound files and folders of them, and key=value")
    parser.add_argument("--config", type=Path, required=True, help="of a stage with a motion GPT")
    options = parser.parse_intermixed_args(arguments)
    keys = [given for given in options.songs if "=" in given]
    try:
        config = read_config(options.config, keys)
        if not isinstance(config, GPTRunConfig):
            raise ValueError(f"stage {config.stage} has no motion GPT to generate dances with")
        dances, loud = make_dances(config, [Path(given) for given in options.songs if given not in keys])
        if not dances:
            raise ValueError("there is no song; name sound files, or folders of them")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = table(rows_of(dances, loud))
    print(format_table(text, text["all"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
