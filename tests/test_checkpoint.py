"""Checkpoints: what a kill leaves, and what is said of files that will not do."""

import pickle

import pytest
import torch
from torch import nn

from utils.checkpoint import load_checkpoint, load_weights, save_checkpoint

MADE_BY = "python main.py --config configs/x.yaml --train"


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "ckpt" / "last.pt"
    save_checkpoint({"stage": "sep_vqvae", "model": nn.Linear(3, 2).state_dict(), "epoch": 1}, path)
    return path


def test_round_trip_and_nothing_left_beside(saved):
    content = load_checkpoint(saved, MADE_BY, ("sep_vqvae",))
    assert content["epoch"] == 1
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]


def test_a_failed_save_leaves_the_old_file(saved):
    before = saved.read_bytes()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint({"stage": "x", "model": lambda: None}, saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is missing; it is made by: python main\.py"):
        load_checkpoint(tmp_path / "none.pt", MADE_BY)


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5, 0.95])
def test_truncated(saved, keep):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"last\.pt is damaged.*make it anew by"):
        load_checkpoint(saved, MADE_BY)


def test_hostile(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "model": Evil()}, path)
    with pytest.raises(ValueError, match="not read from untrusted files"):
        load_checkpoint(path, MADE_BY)
    assert "owned" not in capsys.readouterr().out


def test_of_another_kind(saved, tmp_path):
    with pytest.raises(ValueError, match=r"is of stage 'sep_vqvae', here one of motion_gpt is needed"):
        load_checkpoint(saved, MADE_BY, ("motion_gpt",))
    other = tmp_path / "other.pt"
    torch.save({"weights": 1}, other)
    with pytest.raises(ValueError, match="is not a checkpoint of this project"):
        load_checkpoint(other, MADE_BY)


def test_another_architecture(saved):
    state = load_checkpoint(saved, MADE_BY)["model"]
    with pytest.raises(
        ValueError, match=r"another architecture: .*weight is \(2, 3\) in the file and \(2, 4\) in the config"
    ):
        load_weights(nn.Linear(4, 2), state, saved)
    with pytest.raises(ValueError, match=r"1 missing \(extra\.bias\)|not in this architecture"):
        load_weights(nn.Sequential(nn.Linear(3, 2)), state, saved)
