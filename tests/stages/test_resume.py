"""Training in one go is training with stops in it, between epochs or steps, bit for bit, for every stage."""

import shutil

import pytest
import torch

from tests.stages import synthetic
from tests.stages.tiny import SIZES, checkpoint, run

PARTS = ("model", "optimizer", "scheduler", "random", "step", "epoch", "batch")


@pytest.fixture(scope="module")
def both(small_data, tmp_path_factory):
    """Run folders of two epochs at once, and of one epoch and then another."""
    at_once, in_two = tmp_path_factory.mktemp("at_once"), tmp_path_factory.mktemp("in_two")
    for config in SIZES:
        run(config, small_data, at_once, "train", "training.epochs=2")
        run(config, small_data, in_two, "train", "training.epochs=1")
        run(config, small_data, in_two, "train", "training.epochs=2")
    return at_once, in_two


def leaves(content, path=""):
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(content, list | tuple):
        for i, value in enumerate(content):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, content


def assert_same(a, b):
    for part in PARTS:
        for (path, x), (other, y) in zip(leaves(a[part], part), leaves(b[part], part), strict=True):
            assert path == other
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, path


@pytest.mark.parametrize("config", SIZES)
def test_bit_for_bit(config, both):
    a, b = (torch.load(checkpoint(folder, config), weights_only=True) for folder in both)
    assert a["epoch"] == b["epoch"] == 2
    assert_same(a, b)


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory):
    """All stages trained with a checkpoint after every step, all kept."""
    root = tmp_path_factory.mktemp("stepwise")
    synthetic.make_data(root / "data")
    losses = synthetic.train_all(root / "data", root / "runs", save_steps=1, keep=100)
    return root, losses


@pytest.mark.parametrize("step", [1, 8, 13])
@pytest.mark.parametrize("name", synthetic.ORDER)
def test_going_on_within_an_epoch(name, step, stepwise, tmp_path):
    """What each step's checkpoint goes on to is what the run went on to, losses and all."""
    root, losses = stepwise
    runs = tmp_path / "runs"
    for other in synthetic.ORDER:
        if other != name:
            (runs / other).parent.mkdir(parents=True, exist_ok=True)
            (runs / other).symlink_to(root / "runs" / other)
    (runs / name / "ckpt").mkdir(parents=True)
    whole = root / "runs" / name / "ckpt"
    shutil.copy(whole / f"step_{step:08d}.pt", runs / name / "ckpt" / "last.pt")
    trainer, found = synthetic.make_trainer(name, root / "data", runs)
    torch.rand(7)  # the resumed process has drawn otherwise
    assert trainer.resume()
    assert trainer.step == step
    trainer.run()
    assert found == losses[name][step:]
    a, b = (torch.load(path / "last.pt", weights_only=True) for path in (whole, runs / name / "ckpt"))
    assert_same(a, b)


@pytest.mark.parametrize("name", synthetic.ORDER[:3])
@pytest.mark.parametrize("option", ["on_device", "workers"])
def test_how_clips_are_read_changes_nothing(name, option, stepwise, tmp_path):
    root, losses = stepwise
    for other in synthetic.ORDER[: synthetic.ORDER.index(name)]:
        (tmp_path / other).symlink_to(root / "runs" / other)
    more = {"num_workers": 2, "epochs": 2} if option == "workers" else {}
    data = {"on_device": True} if option == "on_device" else {}
    trainer, found = synthetic.make_trainer(name, root / "data", tmp_path, data=data, **more)
    trainer.run()
    assert found == losses[name][: len(found)]
    assert len(found) >= 12
