"""A small prepared corpus, made once per session by the very code users run.

Tests and what they start compute on one thread unless OMP_NUM_THREADS says otherwise: pytest's own processes
share the processors (`run.sh test` starts as many as there are), and small models are fastest so.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import prepare_aistpp_data
import utils.music.numba_cache  # noqa: F401  before a test uses librosa itself
from datasets.sample import make_corpus
from tests.models.stages import tiny

TRAIN, VAL, TEST = 6, 1, 1


torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, request) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder by a function once for all of pytest's processes, and gives its path to each."""
    workers = hasattr(request.config, "workerinput")
    shared = tmp_path_factory.getbasetemp().parent if workers else tmp_path_factory.getbasetemp()

    def make(name: str, write: Callable[[Path], object]) -> Path:
        with FileLock(shared / f"{name}.lock"):
            folder, done = shared / name, shared / f"{name}.done"
            if not done.exists():
                write(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def raw_corpus(made_once) -> Path:
    """The sample corpus in AIST++'s layout."""
    return made_once("corpus", lambda root: make_corpus(root, seed=0))


@pytest.fixture(scope="session")
def small_data(raw_corpus, made_once) -> Path:
    """A few of its sequences, prepared."""
    return made_once("small_data", lambda folder: prepare_small(raw_corpus, folder)) / "sample"


@pytest.fixture(scope="session")
def trained(small_data, made_once) -> Path:
    """Output folder of all stages, trained on it for one epoch at a size that takes seconds."""
    return made_once("experiments", lambda folder: tiny.train_all(small_data, folder))


def prepare_small(raw_corpus: Path, folder: Path) -> None:
    """Prepares a few sequences of the corpus into `sample` in the folder."""
    raw = folder / "raw"
    (raw / "splits").mkdir(parents=True)
    (raw / "motions").mkdir()
    for split, number in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        names = (raw_corpus / "splits" / f"crossmodal_{split}.txt").read_text().split()
        if split == "test":
            names.reverse()  # another song than that of `val`
        names = names[:: max(1, len(names) // number)][:number]
        (raw / "splits" / f"crossmodal_{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            shutil.copy(raw_corpus / "motions" / f"{name}.pkl", raw / "motions")
    shutil.copy(raw_corpus / "ignore_list.txt", raw)
    out = folder / "sample"
    arguments = [
        "--source",
        str(raw),
        "--songs",
        str(raw_corpus / "wav"),
        "--out",
        str(out),
        "--workers",
        "1",
        "--rotations",
    ]
    assert prepare_aistpp_data.main(arguments) == 0


@pytest.fixture
def no_fit(monkeypatch):
    """Any fit of a body is an error."""
    from utils.export import fit

    def fails(*_, **__):
        raise AssertionError("a body is fitted")

    monkeypatch.setattr(fit, "_fit_window", fails)
