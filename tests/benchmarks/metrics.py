"""Speed of the metrics against the frame-by-frame restatement, and of the jobs people wait for.

python -m tests.benchmarks.metrics
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from tests.utils.metrics import naive
from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance, Reference, dance_features
from utils.metrics.frechet import diversity
from utils.metrics.geometric import geometric_features
from utils.metrics.kinetic import kinetic_features
from utils.metrics.physical import physical_metrics
from utils.metrics.report import evaluate


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Median of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def features_of(seed: int) -> object:
    """Features of one real-sized dance of 10 s; made here so that no time goes into sending it."""
    return dance_features(Dance(f"d{seed}", smooth_dance(seed % 8, 10), np.arange(0, 600, 30)))


def main() -> None:
    """Prints a table."""
    dance = smooth_dance(seconds=20)
    slow = seconds(lambda: (naive.kinetic(dance), naive.geometric(dance)))
    fast = seconds(lambda: (kinetic_features(dance), geometric_features(dance)), 20)
    print(f"kinetic + geometric, 20 s dance      {fast * 1e3:8.1f} ms   {slow / fast:6.0f} x the loop")
    print(
        f"physical metrics, 20 s dance         {seconds(lambda: physical_metrics(dance), 10) * 1e3:8.1f} ms"
    )
    features = np.random.default_rng(0).normal(size=(952, 72))
    slow, fast = seconds(lambda: naive.diversity(features)), seconds(lambda: diversity(features), 5)
    print(f"diversity of 952 dances              {fast * 1e3:8.1f} ms   {slow / fast:6.0f} x the loop")

    start = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        real = list(pool.map(features_of, range(1320), chunksize=24))
    print(f"all features of 1,320 dances of 10 s {time.perf_counter() - start:8.1f} s    with 2 processes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.npz"
        Reference(tuple(real)).save(path)
        own = [Dance(f"g{i}", smooth_dance(i, 20), np.arange(0, 1200, 30)) for i in range(40)]
        took = seconds(lambda: evaluate(own, Reference.load(path)))
    print(f"40 dances of 20 s against 1,320      {took:8.1f} s    with controls and intervals")


if __name__ == "__main__":
    main()
