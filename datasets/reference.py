"""Metric features of the real dances of prepared data, the reference of every evaluation."""

import logging

import numpy as np
from tqdm import tqdm

from datasets.sequences import PreparedData
from utils.dance import Dance
from utils.metrics.dances import DanceFeatures, dance_features
from utils.metrics.reference import FILE_NAME, Reference, data_key
from utils.skeleton import SMPL_24

log = logging.getLogger(__name__)


def loudness(data: PreparedData, song: str) -> np.ndarray | None:
    """Loudness of a song per frame of motion; None if the data does not hold its music.

    It is the first MFCC, the mean over the mel bands of the spectrum in decibels up to a factor.
    """
    if song not in data.songs:
        return None
    return np.repeat(data.song(song).features[:, 0], round(data.fps / data.music_fps))


def real_features(data: PreparedData, name: str) -> DanceFeatures:
    """Features of one real dance, uncut as in the published evaluation, even if it outlasts its song."""
    sequence = data.sequence(name)
    beats = sequence.beats if len(sequence.beats) else None
    dance = Dance(name, sequence.joints, beats, data.fps, sequence.song)
    return dance_features(dance, loudness=loudness(data, sequence.song))


def real_reference(data: PreparedData) -> Reference | None:
    """Features of all real dances: those of extract_aist_features.py, else they are computed and saved.

    Returns:
        The features; None if the data holds songs only.

    Raises:
        ValueError: if the data is of another skeleton than the metrics.
    """
    if data.skeleton is not SMPL_24:
        raise ValueError(
            f"{data.root} holds dances of skeleton {data.skeleton.name!r}; the metrics are defined on "
            f"{SMPL_24.name!r} only (docs/EXTENDING.md)"
        )
    path, key = data.root / FILE_NAME, data_key(data.root)
    names = data.names("all")
    if not names:
        return None
    if path.is_file():
        try:
            return Reference.load(path, key)
        except ValueError as error:
            log.warning("%s; they are made now", error)
    bar = tqdm(names, "features of the real dances", unit="dance", leave=False, disable=None)
    reference = Reference.of([real_features(data, name) for name in bar], str(path), key)
    try:
        reference.save(path)
    except OSError as error:  # the folder may be read-only
        log.warning("%s is not kept: %s", path, error)
    return reference
