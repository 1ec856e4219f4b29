"""Music features of sound that is still arriving, from a moving window.

The features of a song need all of it: levels are relative to its loudest moment, and beats follow one tempo.
Here each block of steps is taken from `music_features` of the sound around it, from `PAST` steps before it to
`AHEAD` steps after it, as if that were the song. These are therefore features of their own kind, defined by
`windowed_features`; they do not depend on the chunks in which the sound arrives. Their delay is at most
`BLOCK + AHEAD` steps: 2.1 s at 7.5 steps per second.

`beat_phase` takes its sound at 30,720 Hz, as its beats are tracked at 60 frames per second in each window. On
drums, clicks of 60 to 180 bpm and songs of the sample corpus, beats and phase are those of the whole song;
the local tempo may differ by 6 % at the ends of a window.

Difference of the other versions from the song's own features, on 30 s of drums and a chord at 100 bpm, in
standard deviations of each column (median): at most 0.01 for MFCC and onsets, 0.28 for chroma (the tuning is
estimated in each window). Beats have the same tempo, but may lie a step apart (0.13 s), or more where a beat
is not a whole number of steps. The tempogram differs by more than 1, as it spans 51 s and the window holds
10: `compat`, whose tempogram is zero, is affected less than `standard`.
"""

import numpy as np

from datasets.music import music_features, sample_rate
from datasets.sequences import num_features
from utils.music import FeatureVersion

BLOCK = 8  # steps taken from one window
PAST = 64  # steps of sound before them; the tracker needs some beats
AHEAD = 8  # steps of sound after them; with the first block it makes the two seconds that features need


class LiveFeatures:
    """Computes features of sound as it arrives; keeps one window of it.

    Args:
        fps: steps per second.
        version: of the features.

    Attributes:
        rate: samples per second of the sound.
        step: samples per step.

    Raises:
        ValueError: if a step is no whole number of samples.
    """

    def __init__(self, fps: float = 7.5, version: FeatureVersion = "standard") -> None:
        self.fps, self.version, self.rate = fps, version, sample_rate(fps, version)
        self.step = samples_per_step(fps, version)
        self.sound = np.zeros(0, np.float32)  # from step `self.start` on
        self.start, self.given = 0, 0  # steps

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Append samples (n,), n >= 0, at `rate`, and return the features (m, D) that they complete.

        Args:
            samples: mono float32 in [-1, 1].
            last: whether the song ends with them; then all steps that are left are returned.

        Raises:
            ValueError: if the samples are not mono or not finite, or the song ends within two seconds.
        """
        if samples.ndim != 1:
            raise ValueError(f"expected mono samples (n,), got shape {samples.shape}")
        self.sound = np.concatenate([self.sound, samples.astype(np.float32, copy=False)])
        parts = [np.zeros((0, num_features(self.version, self.fps)), np.float32)]
        while self._samples() >= (self.given + BLOCK + AHEAD) * self.step:
            parts.append(self._block((self.given + BLOCK + AHEAD) * self.step, BLOCK))
        while last and (left := 1 + self._samples() // self.step - self.given) > 0:
            parts.append(self._block(self._samples(), min(BLOCK, left)))
        return np.concatenate(parts)

    def _samples(self) -> int:
        return self.start * self.step + len(self.sound)

    def _block(self, end: int, steps: int) -> np.ndarray:
        """Features of the next steps, from the window that ends with sample `end` of the song."""
        begin = max(0, self.given - PAST)
        self.sound = self.sound[(begin - self.start) * self.step :].copy()
        self.start = begin
        features = music_features(self.sound[: end - begin * self.step], self.fps, self.version)
        place = self.given - begin
        self.given += steps
        return features[place : place + steps]


def samples_per_step(fps: float, version: FeatureVersion) -> int:
    """Samples of sound at `sample_rate(fps, version)` that a step stands for.

    Raises:
        ValueError: if they are no whole number.
    """
    samples = sample_rate(fps, version) / fps
    if samples != int(samples):
        raise ValueError(f"a step of 1/{fps:g} s would be {samples:g} samples of sound, not a whole number")
    return int(samples)


def windowed_features(
    samples: np.ndarray, fps: float = 7.5, version: FeatureVersion = "standard"
) -> np.ndarray:
    """The features (T', D) of `LiveFeatures` for a whole song (N,), as many steps as of `music_features`.

    Step t, in block b = t // BLOCK, is that of `music_features` of the sound from step b * BLOCK - PAST to
    step (b + 1) * BLOCK + AHEAD.
    """
    step = samples_per_step(fps, version)
    total = 1 + len(samples) // step
    blocks = []
    for first in range(0, total, BLOCK):
        begin, end = max(0, first - PAST), (first + BLOCK + AHEAD) * step
        of_window = music_features(samples[begin * step : end], fps, version)
        blocks.append(of_window[first - begin : min(first + BLOCK, total) - begin])
    return np.concatenate(blocks)
