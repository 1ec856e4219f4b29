"""A job that keeps what it has done passes; one that writes in place, or starts again, does not."""

import time

import pytest

from tests.benchmarks.kills import Job, kill_often
from utils.files import write_beside

FILES, CONTENT = 12, b"x" * 1000


def job(careful, keeps=True):
    def command(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir() if not keeps else ():
            path.unlink()
        for number in range(FILES):
            path = folder / f"{number}.bin"
            if path.exists():
                continue
            if careful:
                time.sleep(0.02)
                write_beside(path, CONTENT)
            else:
                with path.open("wb", buffering=0) as file:
                    for _ in range(10):
                        file.write(CONTENT[:100])
                        time.sleep(0.002)
        return 0

    def done(folder):
        files = list(folder.glob("*.bin"))
        if any(path.read_bytes() != CONTENT for path in files):
            raise ValueError("half a file")
        return len(files)

    return Job("job", command, done, lambda one, two: done(one) == done(two) == FILES)


@pytest.mark.parametrize(
    ("careful", "keeps", "message"),
    [(True, True, None), (False, True, "half-written: half a file"), (True, False, "were done, ")],
)
def test_what_is_lost_or_half_written_is_told(careful, keeps, message, tmp_path):
    rounds, advanced, wrong = kill_often(job(careful, keeps), 12, 0, tmp_path)
    assert (wrong == []) == (message is None), wrong
    assert message is None or any(message in text for text in wrong)
    assert rounds < 12
    assert advanced >= 1 or not careful
