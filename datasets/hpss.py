"""Harmonic-percussive separation by median filters (Fitzgerald, DAFx 2010), as librosa does, but faster.

Along time a median keeps what lasts (harmonic), along frequency what is broad (percussive); soft masks of
power two share the spectrum between them. The medians are exactly librosa's; the way to them is shorter.
"""

from typing import Literal

import librosa
import numpy as np
from scipy.ndimage import median_filter

FFT_SIZE = 2048
HOP = 512
WINDOW = 31  # of the medians, in frames and in bins

PadMode = Literal["constant", "reflect"]


def spectrum(samples: np.ndarray, pad_mode: PadMode) -> np.ndarray:
    """Short-time spectrum (1025, T) complex64 of samples (N,), centred frames, T = 1 + floor(N / 512)."""
    return librosa.stft(y=samples, n_fft=FFT_SIZE, hop_length=HOP, pad_mode=pad_mode)


def harmonic_percussive(
    magnitude: np.ndarray, phase: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The harmonic and the percussive part of a sound.

    Args:
        magnitude: (bins, T) float32, of its spectrum.
        phase: (bins, T) complex64, of modulus 1.
        length: N, the samples of the sound.

    Returns:
        (N,) float32 each.
    """
    harmonic, percussive = (
        librosa.istft(
            stft_matrix=np.multiply(magnitude, share, out=share) * phase, hop_length=HOP, length=length
        )
        for share in harmonic_percussive_masks(magnitude)
    )
    return harmonic, percussive


def harmonic_percussive_masks(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of each bin is harmonic and how much percussive.

    Args:
        magnitude: (bins, T) float32, >= 0.

    Returns:
        (bins, T) float32 each, in [0, 1], sum 1; where there is no sound at all each gets half.
    """
    frames = np.ascontiguousarray(magnitude.T)  # (T, bins); librosa's spectra are laid out like this already
    lasting = np.ascontiguousarray(running_median(np.ascontiguousarray(magnitude)).T)
    broad = running_median(frames)
    largest = np.maximum(lasting, broad)
    silent = largest < np.finfo(largest.dtype).tiny
    largest[silent] = 1
    for energy in (lasting, broad):  # in place, as minutes of music are hundreds of MB here
        energy /= largest  # so that no square underflows
        np.square(energy, out=energy)
    total = np.add(lasting, broad, out=largest)
    total[silent] = 1
    for energy in (lasting, broad):
        energy /= total
        energy[silent] = 0.5
    return lasting.T, broad.T


def running_median(rows: np.ndarray) -> np.ndarray:
    """Medians of 31 neighbours along the last axis of (rows, n) float32; the edges are mirrored."""
    half = WINDOW // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    flat = median_filter(padded.ravel(), size=WINDOW)  # rows end to end: scipy is far faster in one dimension
    return np.ascontiguousarray(flat.reshape(padded.shape)[:, half:-half])
