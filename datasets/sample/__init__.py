"""The sample corpus: songs with known beats and dances with known steps, in the layout of AIST++.

It replaces AIST++ in the quick start and the tests. One seed determines everything.
"""

import json
import pickle
import wave
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.sample.dances import make_dance
from datasets.sample.instruments import SAMPLE_RATE_HZ
from datasets.sample.songs import Song, all_songs, render_song
from utils.files import write_beside
from utils.processors import in_processes
from utils.skeleton import SMPL_24

SCALING = 93.0  # metres = smpl_trans / smpl_scaling; AIST++ has values around this
BASIC_S = 8.0, 12.0  # length of basic dances, sBM
FREE_S = 20.0, 20.0  # of free dances, sFM; models trained on short dances only do not generalise to long ones
BASIC_DANCES, FREE_DANCES = 4, 2  # per training song; with two in total, a GPT memorises them
HELD_OUT_DANCES_PER_SONG = 2  # in split val, and in split test: 40 in total, as in AIST++
_DANCERS = {"BR": (4, 5, 6), "HO": (19, 20, 21), "JB": (7, 8, 9), "PO": (10, 11, 12), "WA": (25, 26, 27)}


@dataclass(frozen=True)
class Sequence:
    """One dance: name as in AIST++, song, dancer, length in frames, whether it is on the ignore list."""

    name: str
    song: Song
    dancer: str
    num_frames: int
    ignored: bool = False


def plan_corpus(seed: int = 0) -> dict[str, list[Sequence]]:
    """Sequences of the corpus by split: `train`, `val`, `test`. One of `train` is on the ignore list."""
    train_songs, test_songs = all_songs()

    def sequence(song: Song, number: int, free: bool, ignored: bool = False) -> Sequence:
        who = f"d{_DANCERS[song.genre][number % len(_DANCERS[song.genre])]:02d}"
        name = f"g{song.genre}_{'sFM' if free else 'sBM'}_cAll_{who}_{song.name}_ch{number + 1:02d}"
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
        length = rng.uniform(*(FREE_S if free else BASIC_S))
        return Sequence(name, song, who, int(SMPL_24.fps * length), ignored)

    numbers = range(BASIC_DANCES + FREE_DANCES)
    train = [sequence(song, number, number >= BASIC_DANCES) for song in train_songs for number in numbers]
    train.append(sequence(train_songs[0], len(numbers), free=False, ignored=True))
    val, test = (
        [sequence(song, number, free=True) for song in test_songs for number in numbers]
        for numbers in np.arange(2 * HELD_OUT_DANCES_PER_SONG).reshape(2, -1).tolist()
    )
    return {"train": train, "val": val, "test": test}


def make_corpus(root: Path, seed: int = 0, workers: int = 1) -> None:
    """Write the sample corpus in AIST++'s layout: the same bytes for the same seed.

    Files: `motions/*.pkl`, `wav/*.wav`, `splits/crossmodal_{train,val,test}.txt`, `ignore_list.txt`, and
    `beats.json` with the true tempo, beat times in seconds and genre of every song (for tests only).

    Args:
        root: folder, made if missing. Files of these names are replaced, others are left alone.
        seed: of all dances.
        workers: number of processes; 1 uses this one.
    """
    splits = plan_corpus(seed)
    sequences = [sequence for split in splits.values() for sequence in split]
    songs = [song for group in all_songs() for song in group]
    jobs = [(root, item, seed) for item in (*songs, *sequences)]
    with tqdm(total=len(jobs), desc="sample corpus", unit="file", disable=None) as bar:
        for _ in in_processes(_write, jobs, workers):
            bar.update()
    for split, members in splits.items():
        write_beside(
            root / "splits" / f"crossmodal_{split}.txt", _lines(sequence.name for sequence in members)
        )
    write_beside(
        root / "ignore_list.txt", _lines(sequence.name for sequence in sequences if sequence.ignored)
    )
    truth = {
        song.name: {"bpm": song.bpm, "beats": song.beats.round(6).tolist(), "genre": song.genre}
        for song in songs
    }
    write_beside(root / "beats.json", (json.dumps(truth, indent=1) + "\n").encode())


def _write(root: Path, item: Song | Sequence, seed: int) -> None:
    if isinstance(item, Song):
        write_beside(root / "wav" / f"{item.name}.wav", _wav_bytes(render_song(item, seed)))
    else:
        write_beside(root / "motions" / f"{item.name}.pkl", _motion_bytes(item, seed))


def _motion_bytes(sequence: Sequence, seed: int) -> bytes:
    poses, translation = make_dance(sequence.song, sequence.name, sequence.dancer, sequence.num_frames, seed)
    if sequence.ignored:  # like the ones AIST++ ignores: the tracking is lost half-way
        lost = slice(len(poses) // 2, None)
        poses[lost], translation[lost] = poses[lost, ::-1], translation[lost] + (0.0, 0.6, 0.0)
    motion = {
        "smpl_poses": poses.astype(np.float32),
        "smpl_trans": (translation * SCALING).astype(np.float32),
        "smpl_scaling": np.array([SCALING], np.float32),
    }
    return pickle.dumps(motion, protocol=4)


def _wav_bytes(samples: np.ndarray) -> bytes:
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, len(samples), "NONE", "not compressed"))
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()
