"""Tempo over time of an onset strength.

The spectrum of the onsets within some seconds is high at the tempo and at its multiples, their
autocorrelation at the tempo and at its fractions; the product of both is high at the tempo alone (Peeters,
EURASIP Journal on Advances in Signal Processing, 2007). The most probable course through these products
(Viterbi) follows a tempo that changes.
"""

from collections.abc import Iterator

import librosa
import numpy as np
from scipy.fft import irfft, rfft
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter1d

_SLOWEST_BPM, _FASTEST_BPM = 40.0, 240.0
_PER_OCTAVE = 48  # tempi that are distinguished: 1.5 % apart
_USUAL_BPM = 120.0  # of the prior: log-normal with a standard deviation of an octave, as librosa's
_WINDOW_SECONDS = 8.0
_STEP_SECONDS = 0.1
_INDEPENDENT = (
    4  # observations per window length: windows of neighbouring steps overlap, and say nearly the same
)
_DRIFT_OCTAVES = 0.01  # by which the tempo typically changes from step to step
_JUMP = 1e-6  # weight of a change to any other tempo, relative to no change
_FLOOR = 1e-3  # of a tempo's weight, relative to the most probable one: no step excludes a tempo
_BLOCK_STEPS = 1000  # analysed at a time, for the sake of memory


def tempo_curve(onset: np.ndarray, frame_rate: float) -> np.ndarray:
    """Tempo at every frame of an onset strength.

    Args:
        onset: (T,) onset strength, >= 0.
        frame_rate: frames per second.

    Returns:
        (T,) float64, beats per minute, from 40 to 240.
    """
    step = max(1, round(_STEP_SECONDS * frame_rate))
    tempi = _tempi(frame_rate)
    weights = np.concatenate(list(_weights(onset, frame_rate, step, tempi)), axis=1)
    weights += _FLOOR * weights.max(axis=0) + np.finfo(float).tiny
    weights **= _INDEPENDENT * _STEP_SECONDS / _WINDOW_SECONDS
    course = librosa.sequence.viterbi(weights / weights.sum(axis=0), _changes(tempi))
    return np.repeat(tempi[course], step)[: len(onset)]


def _changes(tempi: np.ndarray) -> np.ndarray:
    """Probability (m, m) of each tempo at the next step, by the present one.

    It is equally probable to stay at any tempo. The slowest and the fastest ones have neighbours on one side
    only; what they would gain by that goes to changes to any other tempo.
    """
    apart = np.abs(np.log2(tempi[:, None] / tempi))
    change = np.exp(-apart / _DRIFT_OCTAVES) + _JUMP
    change /= change.sum(axis=1).max()
    return change + (1 - change.sum(axis=1, keepdims=True)) / len(tempi)


def _tempi(frame_rate: float) -> np.ndarray:
    """The tempi that are distinguished, ascending; a beat takes two frames at least."""
    fastest = min(_FASTEST_BPM, 30 * frame_rate)
    number = int(_PER_OCTAVE * np.log2(fastest / _SLOWEST_BPM)) + 1
    return _SLOWEST_BPM * 2 ** (np.arange(number) / _PER_OCTAVE)


def _weights(onset: np.ndarray, frame_rate: float, step: int, tempi: np.ndarray) -> Iterator[np.ndarray]:
    """Weight of each tempo at every step-th frame: (tempi, steps), in blocks of steps."""
    size = round(_WINDOW_SECONDS * frame_rate)
    smooth = gaussian_filter1d(onset.astype(np.float64), 1.0)
    rises = np.pad(smooth - gaussian_filter1d(smooth, size / 8), size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.append(rises, np.zeros(size)), size)
    windows = windows[: len(onset) : step]
    length = 4 * size  # of the transforms: with zeros, so that spectra are fine and correlations do not wrap
    prior = np.exp(-0.5 * np.log2(tempi / _USUAL_BPM) ** 2)[:, None]
    for first in range(0, len(windows), _BLOCK_STEPS):
        spectrum = np.abs(rfft(windows[first : first + _BLOCK_STEPS] * np.hanning(size), length)).T
        correlation = irfft(spectrum**2, axis=0)[:size]
        correlation /= np.maximum(correlation[0], np.finfo(float).tiny)
        at_tempo = _read(spectrum, tempi / 60 * length / frame_rate)
        after_beat = np.maximum(_read(correlation, 60 * frame_rate / tempi), 0)
        loudest = np.maximum(at_tempo.max(axis=0), np.finfo(float).tiny)
        yield prior * at_tempo / loudest * after_beat**2


def _read(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows (n, steps) at fractional places (m,): (m, steps), by linear interpolation."""
    return make_interp_spline(np.arange(len(rows)), rows, k=1)(places)
