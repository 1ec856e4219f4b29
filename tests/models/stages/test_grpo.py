"""GRPO: windows, probabilities and advantages of drawn dances; a run of it, its files, and its resumption."""

import json

import numpy as np
import pytest
import torch

from models.actor_critic import group_advantage, returns
from models.generation import attention_window
from models.reward import usage_rewards
from models.stages.rollouts import DrawnBatch, Draws, cut_windows
from models.vqvae import Codes
from tests.models.stages import synthetic
from utils.config import ConfigError

REWARD = {"context": "dance", "prominence": 0.01, "beat_reward": 0, "recall": 1, "precision": 1, "spread": 1}
OWN = {
    "algorithm": "grpo",
    "songs": "train",
    "songs_per_epoch": 3,
    "grpo": {"group_size": 3},
    "reward": REWARD,
    "selection": {"by": "reward", "max_songs": 2},
    "generation": {"window": "hop", "hop": 5},
    "kl_coef": 0.1,
    "discount": 0.7,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("grpo")
    synthetic.make_data(root / "data")
    for name in synthetic.ORDER[:3]:
        synthetic.make_trainer(name, root / "data", root)[0].run()
    return root


def trainer_of(root, output, own=None, **training):
    more = {"before": root, "own": {**OWN, **(own or {})}, "lr": 1e-3, "epochs": 2, **training}
    return synthetic.make_trainer("actor_critic", root / "data", output, **more)[0]


@pytest.mark.parametrize("hop", [1, 4, 8, 28])
def test_each_code_counts_once_in_the_window_it_is_generated_in(hop):
    length, steps = 90, 30
    place = torch.arange(length)
    windows = cut_windows(Codes(place, place), place[:, None].float(), torch.zeros(length * 8), steps, 8, hop)
    counted = {}
    for window, mask in zip(windows.upper, windows.mask, strict=True):
        for step in mask.nonzero()[:, 0]:
            code = int(window[step + 1])
            assert code not in counted
            counted[code] = int(window[0])
    assert sorted(counted) == list(range(1, len(counted) + 1))
    assert length - 1 - hop <= len(counted) <= length - 2 or hop == 1
    for code, start in counted.items():
        assert start == attention_window(code, steps - 2, hop).start


@torch.no_grad()
def test_drawn_dances_have_their_probabilities_and_advantages(root, tmp_path):
    stage = trainer_of(root, tmp_path).stage
    policy = stage.pretrained
    policy.head.to_upper.weight.mul_(20)  # far from uniform
    draws = Draws(group_size=3, temperature=0.8, discount=0.7, seed=5)
    found = stage.collector.draw(policy, stage.songs, [0, 2], draws)
    assert [rollout.song for rollout in found] == [0, 0, 0, 2, 2, 2]
    assert len({tuple(rollout.codes.upper.tolist()) for rollout in found}) == 6
    again = stage.collector.draw(policy, stage.songs, [2], draws)
    assert torch.equal(again[1].codes.upper, found[4].codes.upper)  # whatever else is drawn

    rollout = found[4]
    song, windows = stage.songs[2], rollout.windows
    for row, step in windows.mask.nonzero()[::7].tolist():
        seen = Codes(windows.upper[row, None, : step + 1], windows.lower[row, None, : step + 1])
        logits = policy(windows.music[row, None, 1 : step + 2], seen)
        actions = windows.upper[row, step + 1], windows.lower[row, step + 1]
        p = [
            float((half[0, -1].double() / 0.8).softmax(0)[a]) for half, a in zip(logits, actions, strict=True)
        ]
        nll = float(rollout.rewards["behaviour_nll"][row, step])
        assert nll == pytest.approx(-np.log(p[0] * p[1]), rel=1e-4)
    group = [stage.collector._whole_rewards(one.codes, song)["reward"] for one in found[3:]]
    advantage = group_advantage(returns(torch.stack(group), 0.7))[1]
    start = int((rollout.codes.upper.unfold(0, 30, 1) == windows.upper[-1]).all(-1).nonzero()[-1])
    expected = advantage[start + 1 : start + 29]
    torch.testing.assert_close(rollout.rewards["advantage"][-1], expected)


def test_the_first_batch_has_ratio_one(root, tmp_path):
    stage = trainer_of(root, tmp_path).stage
    batch = next(iter(stage.batches(1)))
    assert isinstance(batch, DrawnBatch)
    _, metrics = stage.loss(batch)
    mask = batch.windows.mask
    assert float(metrics["clipped"]) == 0
    expected = -float((batch.advantage * mask).sum() / mask.sum())
    assert float(metrics["policy_loss"].detach()) == pytest.approx(expected, abs=1e-4)
    assert float(metrics["kl_to_gpt"].detach()) == pytest.approx(0, abs=1e-6)


def test_a_run_and_its_report(root, tmp_path):
    trainer = trainer_of(root, tmp_path)
    before = {name: value.clone() for name, value in trainer.stage.model.state_dict().items()}
    trainer.run()
    moved = {
        name for name, value in trainer.stage.model.state_dict().items() if not value.equal(before[name])
    }
    assert moved
    assert all(name.startswith("gpt.head") for name in moved)  # neither base nor value
    found = json.loads((trainer.folder / "finetuning.json").read_text())
    assert found["algorithm"] == "grpo"
    assert len(found["songs"]) == 2
    assert list(found["rewards"]) == ["GPT", "finetuned", "real", "memory", "random codes"]
    parts = {"reward", "beat_reward", "recall", "precision", "energy", "spread", "consistency"}
    assert all(set(row) == parts for row in found["rewards"].values())
    for row in found["rewards"].values():
        assert row["reward"] == pytest.approx(row["recall"] + row["precision"] + row["spread"], abs=1e-4)
    text = (trainer.folder / "finetuning.md").read_text()
    assert f"| real          | {found['rewards']['real']['reward']:.3f}" in text
    assert set(trainer.stage.metrics) >= parts | {"judged_reward", "nll", "best_epoch"}
    assert not {"advantage", "behaviour_nll"} & set(trainer.stage.metrics)


def test_the_usage_is_of_all_dances_of_the_epoch(root, tmp_path):
    trainer = trainer_of(root, tmp_path, {"reward": {**REWARD, "usage": 2.0}}, epochs=1)
    stage = trainer.stage
    found = stage.collector.draw(stage.pretrained, stage.songs, [0, 2], Draws(3, 1.0, 0.7, 5))
    usage = usage_rewards([rollout.codes for rollout in found], stage.collector.real_codes)
    for rollout, part in zip(found, usage, strict=True):
        kept = rollout.windows.upper
        starts = [int((rollout.codes.upper.unfold(0, 30, 1) == row).all(-1).nonzero()[0]) for row in kept]
        for row, start in enumerate(starts):
            assert torch.equal(rollout.rewards["usage"][row], part[start + 1 : start + 29])
    rewards = found[4].rewards
    own = rewards["recall"] + rewards["precision"] + rewards["spread"] + 2 * rewards["usage"]
    torch.testing.assert_close(rewards["reward"], own)
    trainer.run()
    rows = json.loads((trainer.folder / "finetuning.json").read_text())["rewards"]
    assert list(rows) == ["GPT", "finetuned", "real", "memory", "random codes"]
    assert all(row["usage"] < 0 for row in rows.values())
    assert rows["real"]["usage"] == pytest.approx(rows["memory"]["usage"], abs=0.05)  # the same codes


def test_it_resumes_within_an_epoch_bit_for_bit(root, tmp_path):
    whole = trainer_of(root, tmp_path / "whole")
    whole.run()
    part = trainer_of(root, tmp_path / "part", save_steps=3, keep_last=100)
    part.run()
    for path in part.last.parent.glob("*.pt"):
        if path.name != "step_00000003.pt":
            path.unlink()
    again = trainer_of(root, tmp_path / "part")
    assert again.resume()
    assert again.batch == 3
    again.run()
    for name, value in whole.stage.model.state_dict().items():
        assert torch.equal(value, again.stage.model.state_dict()[name]), name


def test_configs_that_do_not_fit(root, tmp_path):
    for own, message in (
        ({"reward": {}}, "needs reward.context: dance"),
        ({"generation": {"window_codes": 20}}, "window_codes: null, got 20"),
        ({"grpo": {"group_size": 1}}, "group_size"),
        ({"reward": {**REWARD, "usage": -1}}, "usage"),
    ):
        with pytest.raises(ConfigError, match=message):
            trainer_of(root, tmp_path, own)


def test_songs_alone_need_a_reference(root, tmp_path):
    manifest = json.loads((root / "data" / "manifest.json").read_text())
    manifest |= {"sequences": {}, "splits": {"train": [], "test": []}}
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "manifest.json").write_text(json.dumps(manifest))
    (songs / "music").symlink_to(root / "data" / "music")
    more = {"before": root, "epochs": 1}
    own = {**OWN, "songs": "all", "generation": {"first_codes": [3, 2]}}
    with pytest.raises(ValueError, match=r"reward.spread 1.0 compares with real dances.*reward.reference="):
        synthetic.make_trainer("actor_critic", songs, tmp_path, own=own, **more)
    own["reward"] = {**REWARD, "reference": str(root / "data")}
    trainer = synthetic.make_trainer("actor_critic", songs, tmp_path, own=own, **more)[0]
    trainer.run()
    found = json.loads((trainer.folder / "finetuning.json").read_text())["rewards"]
    assert list(found) == ["GPT", "finetuned", "random codes"]
