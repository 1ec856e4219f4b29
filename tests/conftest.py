"""A small prepared corpus, made once per session by the very code users run."""

import shutil
from pathlib import Path

import pytest

import prepare_aistpp_data
from datasets.sample import make_corpus

TRAIN, VAL, TEST = 6, 1, 1


@pytest.fixture(scope="session")
def raw_corpus(tmp_path_factory) -> Path:
    """The sample corpus in AIST++'s layout."""
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root, seed=0)
    return root


@pytest.fixture(scope="session")
def small_data(raw_corpus, tmp_path_factory) -> Path:
    """A few of its sequences, prepared."""
    raw = tmp_path_factory.mktemp("small")
    (raw / "splits").mkdir()
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
    out = tmp_path_factory.mktemp("data") / "sample"
    arguments = [
        "--source",
        str(raw),
        "--songs",
        str(raw_corpus / "wav"),
        "--out",
        str(out),
        "--workers",
        "1",
    ]
    assert prepare_aistpp_data.main(arguments) == 0
    return out
