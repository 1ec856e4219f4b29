"""Time of small operations by how OpenMP's threads wait, alone and beside one busy process.

    python -m tests.benchmarks.threads

Rows: a convolution of the sample memory (16 x 64 channels x 240 frames, forward and backward), the same on
one thread, and a product of the size of the published GPT. Columns: `OMP_WAIT_POLICY=passive`, as all
commands set it, and PyTorch's own default, which spins. Medians of interleaved runs; run it on a machine
that is otherwise idle.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from utils.processors import usable_cpus

PROBE = """
import json, sys, time
import torch

def median_ms(step, repeats):
    times = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[5:])[repeats // 2]

convolution = torch.nn.Conv1d(64, 64, 3, padding=1)
motion = torch.randn(16, 64, 240)
weight, tokens = torch.randn(3072, 768), torch.randn(2784, 768)
found = {
    "convolution": median_ms(lambda: convolution(motion).sum().backward(), 150),
    "product": median_ms(lambda: tokens @ weight.T, 20),
}
torch.set_num_threads(1)
found["convolution, one thread"] = median_ms(lambda: convolution(motion).sum().backward(), 150)
print(json.dumps(found))
"""


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Run a process that computes without end inside the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def measure(policy: str | None) -> dict[str, float]:
    """Medians in ms of one fresh process; None leaves PyTorch's default."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each column, interleaved")
    repeats = parser.parse_args().repeats
    print(
        f"{usable_cpus()} processors\n\n| ms | passive | default | passive / default |\n|---|---:|---:|---:|"
    )
    for wanted, where in ((False, "idle"), (True, "beside a busy process")):
        with busy(wanted):
            runs = [(measure("passive"), measure(None)) for _ in range(repeats)]
        for name in runs[0][0]:
            passive, default = (statistics.median(run[i][name] for run in runs) for i in (0, 1))
            ratio = statistics.median(run[0][name] / run[1][name] for run in runs)
            print(f"| {name}, {where} | {passive:.2f} | {default:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
