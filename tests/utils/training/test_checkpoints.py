"""Checkpoints: what a kill leaves, and what is said of files that will not do."""

import logging
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from utils.training.checkpoints import (
    CheckpointFolder,
    DamagedCheckpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)

TRAINING = {
    "epoch": 0,
    "optimizer": {},
    "scheduler": {},
    "random": {},
}  # empty: only that it is there counts here
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
    with pytest.raises(ValueError, match=r"last\.pt is damaged.*make it again by"):
        load_checkpoint(saved, MADE_BY)


def test_a_flipped_bit_is_detected_or_changes_nothing(saved):
    """torch reads changed weights silently; the CRC of each record detects them.

    Bits outside the records (padding between them, unused header fields) do not change what is read.
    """
    whole, content = saved.read_bytes(), load_checkpoint(saved, MADE_BY)
    detected = 0
    for place in range(0, len(whole), 31):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = load_checkpoint(saved, MADE_BY)
        except DamagedCheckpoint:
            detected += 1
        else:
            assert found.keys() == content.keys()
            assert all(torch.equal(found["model"][key], value) for key, value in content["model"].items())
            assert found["epoch"] == 1
    assert detected > 20
    weights = content["model"]["weight"].numpy().tobytes()
    for place in range(whole.index(weights), whole.index(weights) + len(weights)):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedCheckpoint, match=r"last\.pt is damaged \(the checksum of its record"):
            load_checkpoint(saved, MADE_BY)


def test_torch_reads_it_and_older_formats_are_read(saved, tmp_path):
    assert torch.load(saved, weights_only=True)["epoch"] == 1
    old = tmp_path / "old.pt"
    torch.save({"format": 1, "stage": "sep_vqvae", "epoch": 7}, old)
    assert load_checkpoint(old, MADE_BY)["epoch"] == 7
    torch.save({"format": 2, "stage": "actor_critic", "choice": {"epoch": 3}}, old)
    with zipfile.ZipFile(old, "a") as archive:  # format 2 holds a SHA-256 in the archive's comment
        archive.comment = b"sha256:" + 64 * b"0"
    content = load_checkpoint(old, MADE_BY)
    assert content["selection"] == {"epoch": 3}
    assert "choice" not in content
    torch.save({"format": 99, "stage": "sep_vqvae"}, old)
    with pytest.raises(ValueError, match="has format 99; this version reads formats 1 to 3"):
        load_checkpoint(old, MADE_BY)


@pytest.fixture
def folder(tmp_path):
    """A folder in which steps 10, 20, ... 50 were saved; 20 and 40 stay."""
    folder = CheckpointFolder(tmp_path / "ckpt", "sep_vqvae", 3, MADE_BY)
    for step in range(10, 60, 10):
        content = {"stage": "sep_vqvae", "model": {"x": torch.full((100,), float(step))}, "step": step}
        content |= TRAINING
        folder.save(content, f"epoch_{step // 10:04d}.pt" if step % 20 == 0 else None)
    return folder


def names(folder):
    return sorted(path.name for path in folder.folder.iterdir())


def test_the_newest_are_kept_and_milestones_stay(folder):
    kept = ["epoch_0002.pt", "epoch_0004.pt", "last.pt", "step_00000030.pt", "step_00000040.pt"]
    assert names(folder) == kept
    for name, step in zip(kept, (20, 40, 50, 30, 40), strict=True):
        content = load_checkpoint(folder.folder / name, MADE_BY)
        assert content["step"] == step
        assert content["model"]["x"].eq(step).all()
    assert {path.stat().st_nlink for path in folder.folder.iterdir()} == {
        1
    }  # what harms one spares the others
    folder.keep_last = 1
    folder.save({"stage": "sep_vqvae", "step": 60})
    assert names(folder) == ["epoch_0002.pt", "epoch_0004.pt", "last.pt"]


def test_file_systems_without_links(folder, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    folder.save({"stage": "sep_vqvae", "step": 60})
    assert load_checkpoint(folder.folder / "step_00000050.pt", MADE_BY)["step"] == 50
    assert load_checkpoint(folder.last, MADE_BY)["step"] == 60


def test_a_damaged_newest_file_is_passed_over_loudly(folder, caplog):
    again = CheckpointFolder(folder.folder, "sep_vqvae", 3, MADE_BY)
    damaged = [again.last, *(again.folder / f"step_000000{step}.pt" for step in (40, 30))]
    damaged += [again.folder / "epoch_0004.pt"]
    expected = [40, 30, 40, 20]
    for path, step in zip(damaged, expected, strict=True):
        path.write_bytes(path.read_bytes()[:-900])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found, content = again.newest()
        assert content["step"] == step
        assert f"WARNING: checkpoint {path} is damaged" in caplog.text
        assert f"resuming from {found}, step {step}" in caplog.text
    again.tidy()
    assert names(again) == ["epoch_0002.pt", *sorted(f"{path.name}.damaged" for path in damaged)]
    again.save({"stage": "sep_vqvae", "step": 25, **TRAINING})
    assert again.newest()[1]["step"] == 25
    again.last.unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert again.newest()[1]["step"] == 20
    assert "last.pt is missing" in caplog.text
    (again.folder / "epoch_0002.pt").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="none of 1 checkpoints can be read"):
        again.newest()


def test_what_a_kill_left_beside_is_removed(folder):
    (folder.folder / "last.pt.123.tmp").write_bytes(b"half")
    folder.tidy()
    assert not list(folder.folder.glob("*.tmp"))
    assert CheckpointFolder(folder.folder / "none", "sep_vqvae", 3, MADE_BY).newest() is None


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


def test_weights_that_are_not_numbers_are_told(tmp_path):
    model, state = nn.Linear(3, 2), nn.Linear(3, 2).state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state["bias"][1] = float("nan")
    with pytest.raises(ValueError, match=r"x\.pt is damaged: 1 holding NaN \(bias\); use an earlier one"):
        load_weights(model, state, tmp_path / "x.pt")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    state["bias"][1] = float("inf")  # the std of features that are left out
    load_weights(model, state, tmp_path / "x.pt")
