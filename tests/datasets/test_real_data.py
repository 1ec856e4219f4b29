"""The real-data benchmark: it says when there is nothing, merges sources without mixing splits, and shows."""

import pickle

import numpy as np
import pytest

from datasets.sequences import PreparedData
from tests.benchmarks import real_data
from utils.dance import Dance


def source(folder, **splits):
    """A few still dances in AIST++'s layout."""
    (folder / "motions").mkdir(parents=True)
    (folder / "splits").mkdir()
    for split in real_data.SPLITS:
        names = splits.get(split, [])
        (folder / "splits" / f"crossmodal_{split}.txt").write_text(
            "\n".join([*names, "gXX_sBM_cAll_d99_mXX9_ch99"])
        )
        for name in names:
            motion = {
                "smpl_poses": np.zeros((60, 72)),
                "smpl_trans": np.zeros((60, 3)),
                "smpl_scaling": np.ones(1),
            }
            (folder / "motions" / f"{name}.pkl").write_bytes(pickle.dumps(motion))
    return real_data.found_in(folder)


def test_without_real_data_it_says_so(tmp_path, capsys):
    assert real_data.main(["--source", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 0
    assert "skipped: there are no real AIST++ motions" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_sources_are_merged(tmp_path):
    one = source(tmp_path / "one", train=["gBR_sBM_cAll_d04_mBR0_ch01"], test=["gBR_sBM_cAll_d04_mBR0_ch02"])
    two = source(tmp_path / "two", train=["gJS_sBM_cAll_d03_mJS2_ch07"], val=["gJS_sBM_cAll_d03_mJS2_ch01"])
    assert two.held_out == ("gJS_sBM_cAll_d03_mJS2_ch01",)
    real_data.merge([one, two], [two], tmp_path / "out")
    data = PreparedData(tmp_path / "out")
    assert data.names("train") == list(two.splits["train"])
    assert sorted(data.names("test")) == sorted([*one.splits["train"], *one.held_out, *two.held_out])
    with pytest.raises(ValueError, match="dances of the same name"):
        real_data.merge([one, one], [one], tmp_path / "again")
    assert real_data.without(one, one).splits == {"train": (), "val": (), "test": ()}
    assert real_data.without(one, two) == one
    with pytest.raises(FileNotFoundError, match="no dances of train"):
        source(tmp_path / "three", val=["gJS_sBM_cAll_d03_mJS2_ch01"])


def test_table_and_page(tmp_path):
    groups = {"real, held out": ["a"], "real, training": ["b", "c"], "sample, held out": ["d"]}
    errors = {
        row: [dict.fromkeys(groups, mm), dict.fromkeys(groups, mm + 2)]
        for mm, row in enumerate(real_data.ROWS)
    }
    text = real_data.table(errors, groups, 600)
    assert "| trained on | real, held out (1) | real, training (2) | sample, held out (1) |" in text
    assert "| sample corpus | 1.0 ± 1.4 | 1.0 ± 1.4 | 1.0 ± 1.4 |" in text
    assert "| both | 3.0 ± 1.4 | 3.0 ± 1.4 (seen) | 3.0 ± 1.4 |" in text
    joints = np.random.default_rng(0).normal(size=(16, 24, 3)).astype(np.float32)
    made = {row: Dance("a", joints, codes=np.zeros((2, 2), int)) for row in real_data.ROWS}
    real_data.page(tmp_path / "page.html", joints, made, "held out")
    assert "memory of sample corpus" in (tmp_path / "page.html").read_text()
