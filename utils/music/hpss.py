"""Harmonic-percussive separation by median filters (Fitzgerald, DAFx 2010), as librosa does, but faster.

Along time a median keeps what lasts (harmonic), along frequency what is broad (percussive); soft masks of
power two share the spectrum between them. The medians are exactly librosa's; the way to them is shorter.

A song is worked through in blocks of frames. A median looks no further than 15 frames, so a block that
overlaps its neighbours by as many gives the same numbers as the whole song at once, in the memory of a block.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import librosa
import numpy as np
from scipy.ndimage import median_filter

import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled

FFT_SIZE = 2048
HOP = 512
WINDOW = 31  # of the medians, in frames and in bins
BLOCK = 512  # frames worked on at once: some 15 MB

PadMode = Literal["constant", "reflect"]


class SpectrumBlock(NamedTuple):
    """Part of a short-time spectrum, with some frames of the blocks on either side.

    Attributes:
        start: of the block, the first of its own frames.
        lead: how many frames of the block before it come first.
        frames: how many frames are the block's own.
        values: (1025, lead + frames + those of the next block) complex64.
    """

    start: int
    lead: int
    frames: int
    values: np.ndarray

    @property
    def own(self) -> slice:
        """Slice of the block's own frames."""
        return slice(self.lead, self.lead + self.frames)


def spectrum_blocks(samples: np.ndarray, pad_mode: PadMode, overlap: int = 0) -> Iterator[SpectrumBlock]:
    """Short-time spectrum of samples (N,), centred frames, 1 + floor(N / 512) in all, block by block."""
    total, half = 1 + len(samples) // HOP, FFT_SIZE // 2
    for start in range(0, total, BLOCK):
        stop = min(start + BLOCK, total)
        first, last = max(0, start - overlap), min(total, stop + overlap)
        part = _stretch(samples, first * HOP - half, (last - 1) * HOP + half, pad_mode)
        values = librosa.stft(y=part, n_fft=FFT_SIZE, hop_length=HOP, center=False)
        yield SpectrumBlock(start, start - first, stop - start, values)


def _stretch(samples: np.ndarray, begin: int, end: int, pad_mode: PadMode) -> np.ndarray:
    """Samples begin to end; what lies outside of the sound is mirrored (`reflect`) or zero (`constant`)."""
    if begin >= 0 and end <= len(samples):
        return samples[begin:end]
    places = np.arange(begin, end)
    mirrored = np.abs(places)
    part = samples[np.maximum(0, np.minimum(mirrored, 2 * (len(samples) - 1) - mirrored))]
    if pad_mode == "constant":
        part[(places < 0) | (places >= len(samples))] = 0
    return part


class Synthesis:
    """Puts a sound together from blocks of its spectrum, as librosa.istft does from the whole of it.

    Args:
        length: N, the samples of the sound.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.window = librosa.filters.get_window("hann", FFT_SIZE, fftbins=True)[:, None]
        self.sound = np.zeros((length // HOP) * HOP + FFT_SIZE, np.float32)

    def add(self, start: int, values: np.ndarray) -> None:
        """Adds frames of a spectrum (1025, n), the first of which is frame `start`."""
        frames = self.window * np.fft.irfft(values, n=FFT_SIZE, axis=0)
        for place, frame in enumerate(frames.T, start):
            self.sound[place * HOP : place * HOP + FFT_SIZE] += frame

    def result(self) -> np.ndarray:
        """The sound (N,) float32, when all its frames have been added."""
        frames, edge = 1 + self.length // HOP, FFT_SIZE // HOP - 1
        weight = librosa.filters.window_sumsquare(
            window="hann", n_frames=min(frames, 2 * edge), n_fft=FFT_SIZE, hop_length=HOP, dtype=np.float32
        )
        weight[weight <= np.finfo(np.float32).tiny] = 1
        weight, hops = weight.reshape(-1, HOP), self.sound.reshape(-1, HOP)
        if frames <= 2 * edge:
            hops /= weight
        else:
            hops[:edge] /= weight[:edge]
            hops[edge:-edge] /= weight[edge]  # all alike in between
            hops[-edge:] /= weight[-edge:]
        return self.sound[FFT_SIZE // 2 :][: self.length]


def percussive_part(samples: np.ndarray, pad_mode: PadMode) -> np.ndarray:
    """The percussive part (N,) float32 of samples (N,)."""
    percussive = Synthesis(len(samples))
    for block in spectrum_blocks(samples, pad_mode, WINDOW // 2):
        magnitude, phase = librosa.magphase(D=block.values)
        share = harmonic_percussive_masks(magnitude)[1]
        percussive.add(block.start, ((magnitude * share) * phase)[:, block.own])
    return percussive.result()


def harmonic_percussive(samples: np.ndarray, pad_mode: PadMode) -> tuple[np.ndarray, np.ndarray]:
    """The harmonic and the percussive part, (N,) float32 each, of samples (N,)."""
    parts = Synthesis(len(samples)), Synthesis(len(samples))
    for block in spectrum_blocks(samples, pad_mode, WINDOW // 2):
        magnitude, phase = librosa.magphase(D=block.values)
        for part, share in zip(parts, harmonic_percussive_masks(magnitude), strict=True):
            part.add(block.start, ((magnitude * share) * phase)[:, block.own])
    return parts[0].result(), parts[1].result()


def harmonic_percussive_masks(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft masks: the harmonic and the percussive share of each bin.

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
    for energy in (lasting, broad):
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
