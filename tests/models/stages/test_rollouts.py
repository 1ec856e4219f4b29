"""Batches of windows: gathered from the dances, they are the windows that were cut."""

import pytest
import torch

from models.stages.rollouts import (
    DrawnBatch,
    Rollout,
    TargetSong,
    WindowBatches,
    Windows,
    cut_windows,
    window_starts,
)
from models.vqvae import Codes

STEPS, PER_CODE = 6, 8
CPU = torch.device("cpu")


def song(name, length, seed, frames):
    generator = torch.Generator().manual_seed(seed)
    music = torch.randn(length, 5, generator=generator)
    beats = torch.rand(frames, generator=generator) < 0.3
    return TargetSong(name, name, music, beats, Codes(torch.tensor([1]), torch.tensor([2])), 0)


# beats that end before the music, and after it
SONGS = [song("a", 20, 1, 100), song("unused", 9, 2, 80), song("c", 14, 3, 150)]


def rollout(index, length, seed, hop, drawn):
    generator = torch.Generator().manual_seed(seed)
    codes = Codes(*torch.randint(50, (2, length), generator=generator))
    windows = cut_windows(codes, SONGS[index].music, SONGS[index].beats, STEPS, PER_CODE, hop)
    names = ("reward", "advantage", "behaviour_nll") if drawn else ("reward",)
    rewards = {n: torch.randn(len(windows.mask), STEPS - 2, generator=generator) for n in names}
    return Rollout(index, codes, windows, rewards, hop)


@pytest.mark.parametrize(("hop", "drawn"), [(1, False), (3, True)])
def test_batches_are_the_windows_that_were_cut(hop, drawn):
    rollouts = [rollout(2, 14, 4, hop, drawn), rollout(0, 18, 5, hop, drawn), rollout(2, 9, 6, hop, drawn)]
    whole = Windows(*(torch.cat(field) for field in zip(*(r.windows for r in rollouts), strict=True)))
    number = len(whole.mask)
    assert number == sum(len(window_starts(len(r.codes.upper) - STEPS + 1, hop)) for r in rollouts)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(7)).tolist()
    chosen = [order[start : start + 4] for start in range(0, number - 3, 4)]
    batches = WindowBatches(rollouts, SONGS, chosen, 2, CPU)
    found = list(batches)
    assert len(found) == len(batches) == len(chosen)
    for i, (batch, indices) in enumerate(zip(found, chosen, strict=True)):
        for ours, theirs in zip(batch.windows, whole, strict=True):
            assert torch.equal(ours, theirs[indices])
        signals = ("advantage", "behaviour_nll") if drawn else ("reward",)
        for name in signals:
            expected = torch.cat([r.rewards[name] for r in rollouts])[indices]
            assert torch.equal(getattr(batch, name), expected)
        assert isinstance(batch, DrawnBatch) == drawn
        assert drawn or batch.updates_policy == (i // 2 % 2 == 0)
    assert set(batches.names(0)) <= {"a", "c"}
    batches.skip(1)
    rest = list(batches)
    assert len(rest) == len(chosen) - 1
    assert torch.equal(rest[0].windows.music, found[1].windows.music)
    assert drawn or [b.updates_policy for b in rest] == [b.updates_policy for b in found[1:]]
