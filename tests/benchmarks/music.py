"""How long music features take, beside the same recipe written with librosa's own calls; both in one run.

    python -m tests.benchmarks.music [--seconds 60] [--repeats 3]

Prints, per rate and version, seconds for both, their ratio (best of the repeats), and the largest
difference per group of columns.
"""

import argparse
import time
from collections.abc import Callable

import librosa
import numpy as np

from datasets.music import music_features
from tests.datasets.test_music import COLUMNS, drums, plain_recipe
from utils.music.hpss import WINDOW, running_median


def best(work: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    """Shortest of several times, in seconds, and the result; the first call compiles and is not counted."""
    result, times = work(), []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    print(f"{args.seconds:g} s of music, best of {args.repeats}")
    print(f"{'fps':>5} {'version':>9} {'librosa s':>10} {'ours s':>8} {'ratio':>6}   largest difference")
    for fps in (60.0, 7.5):
        samples = drums(120, args.seconds, int(512 * fps))
        for version in ("standard", "compat"):
            slow, expected = best(lambda s=samples, f=fps, v=version: plain_recipe(s, f, v), args.repeats)
            fast, features = best(lambda s=samples, f=fps, v=version: music_features(s, f, v), args.repeats)
            off = [f"{name} {np.abs(features - expected)[:, c].max():.0e}" for name, c in COLUMNS.items()]
            print(f"{fps:5g} {version:>9} {slow:10.2f} {fast:8.2f} {slow / fast:6.1f}   {', '.join(off)}")

    from scipy.ndimage import median_filter

    magnitude = np.abs(librosa.stft(y=drums(120, args.seconds, 30720), n_fft=2048, hop_length=512))
    slow, expected = best(lambda: median_filter(magnitude, size=(1, WINDOW), mode="reflect"), args.repeats)
    fast, medians = best(lambda: running_median(np.ascontiguousarray(magnitude)), args.repeats)
    print(
        f"medians along time alone: {slow:.2f} s -> {fast:.2f} s, equal: {np.array_equal(medians, expected)}"
    )


if __name__ == "__main__":
    main()
