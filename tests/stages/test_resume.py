"""Two epochs in one go are two epochs with a stop between them, bit for bit, for every stage."""

import pytest
import torch

from tests.stages.tiny import SIZES, checkpoint, run


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


@pytest.mark.parametrize("config", SIZES)
def test_bit_for_bit(config, both):
    a, b = (torch.load(checkpoint(folder, config), weights_only=True) for folder in both)
    assert a["epoch"] == b["epoch"] == 2
    for part in ("model", "optimizer", "scheduler", "random", "step"):
        for (path, x), (other, y) in zip(leaves(a[part], part), leaves(b[part], part), strict=True):
            assert path == other
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, path
