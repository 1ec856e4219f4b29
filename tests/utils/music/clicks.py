"""Clicks at a known tempo, every fourth of another pitch, over a quiet tone."""

from collections.abc import Callable

import numpy as np

RATE = 30720


def clicks(tempo: float | Callable[[float], float], seconds: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Samples (N,) float32 at `RATE`, and the seconds of the clicks.

    Args:
        tempo: beats per minute, or a function of the time in seconds that gives them.
        seconds: length of the sound.
    """
    rng, size = np.random.default_rng(0), round(0.09 * RATE)
    time = np.arange(size) / RATE
    samples = np.zeros(round(seconds * RATE))
    at, times = 0.0, []
    while at < seconds - 0.1:
        pitch = 60 if len(times) % 4 else 110
        sound = np.sin(2 * np.pi * pitch * time) + 0.5 * rng.normal(size=size)
        samples[round(at * RATE) :][:size] += 0.6 * np.exp(-time / 0.02) * sound
        times.append(at)
        at += 60 / (tempo(at) if callable(tempo) else tempo)
    samples += 0.02 * np.sin(2 * np.pi * 220 * np.arange(len(samples)) / RATE)
    return samples.astype(np.float32), np.array(times)
