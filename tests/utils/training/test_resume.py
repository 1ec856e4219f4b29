"""Training in one go is training with stops in it, between epochs or steps, bit for bit, for every stage."""

import copy
import json
import logging
import shutil

import pytest
import torch

from tests.models.stages import synthetic

PARTS = ("model", "optimizer", "scheduler", "random", "step", "epoch", "batch")
STEP = 13  # within an epoch


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


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory):
    """All stages trained with a checkpoint after every step, all kept."""
    root = tmp_path_factory.mktemp("stepwise")
    synthetic.make_data(root / "data")
    losses = synthetic.train_all(root / "data", root / "runs", save_steps=1, keep_last=100)
    return root, losses


@pytest.mark.parametrize("step", [1, 8, 12, 13])  # 8 or 12 end an epoch
@pytest.mark.parametrize("name", synthetic.ORDER)
def test_going_on_within_an_epoch(name, step, stepwise, tmp_path):
    """What each step's checkpoint goes on to is what the run went on to, losses and all."""
    root, losses = stepwise
    runs = tmp_path / "runs"
    (runs / name / "ckpt").mkdir(parents=True)
    whole = root / "runs" / name / "ckpt"
    shutil.copy(whole / f"step_{step:08d}.pt", runs / name / "ckpt" / "last.pt")
    trainer, found = synthetic.make_trainer(name, root / "data", runs, before=root / "runs")
    torch.rand(7)  # the resumed process has drawn otherwise
    assert trainer.resume()
    assert trainer.step == step
    trainer.run()
    assert found == losses[name][step:]
    a, b = (torch.load(path / "last.pt", weights_only=True) for path in (whole, runs / name / "ckpt"))
    assert_same(a, b)


@pytest.mark.parametrize("older", [False, True])
def test_the_line_of_an_epoch_covers_all_of_it(stepwise, tmp_path, older):
    """Resumed within an epoch, used codes, perplexity and restarts are those of the whole epoch."""
    root, _ = stepwise
    lines, saves = {}, root / "runs" / "sep_vqvae" / "ckpt"
    done = torch.load(saves / f"step_{STEP:08d}.pt", weights_only=True)["batch"]
    assert done > 0
    for run, step in (("whole", STEP - done), ("resumed", STEP)):
        folder = tmp_path / run / "sep_vqvae" / "ckpt"
        folder.mkdir(parents=True)
        saved = saves / f"step_{step:08d}.pt"
        shutil.copy(saved, folder / "last.pt")
        if older:  # of a version that did not save them
            content = torch.load(saved, weights_only=True)
            del content["health"]
            torch.save(content, folder / "last.pt")
        trainer, _ = synthetic.make_trainer("sep_vqvae", root / "data", tmp_path / run)
        assert trainer.resume()
        own = trainer.stage.end_epoch
        trainer.stage.end_epoch = lambda epoch, own=own, run=run: lines.setdefault(run, own(epoch))
        trainer.run()
    assert lines["whole"]["used_codes_upper"] > 0
    assert (lines["whole"] == lines["resumed"]) != older


@pytest.mark.parametrize("name", synthetic.ORDER[:3])
@pytest.mark.parametrize("option", ["on_device", "workers"])
def test_how_clips_are_read_changes_nothing(name, option, stepwise, tmp_path):
    root, losses = stepwise
    more: dict = {"num_workers": 2, "epochs": 2} if option == "workers" else {}
    data = {"on_device": True} if option == "on_device" else {}
    more |= {"data": data, "before": root / "runs"}
    trainer, found = synthetic.make_trainer(name, root / "data", tmp_path, **more)
    trainer.run()
    assert found == losses[name][: len(found)]
    assert len(found) >= 12


def test_training_does_not_go_on_with_other_music_features_or_heads(stepwise, tmp_path):
    root, _ = stepwise
    data = tmp_path / "data"
    shutil.copytree(root / "data", data)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["music"]["version"] = "compat"
    (data / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(root / "runs" / "motion_gpt", tmp_path / "motion_gpt")
    more = {"before": root / "runs"}
    trainer, _ = synthetic.make_trainer("motion_gpt", data, tmp_path, **more)
    with pytest.raises(
        ValueError, match=r"last\.pt was trained on 'standard' music features, .* 'compat' ones"
    ):
        trainer.resume()
    own = {"model": {**synthetic.GPT, "heads": 4}}
    trainer, _ = synthetic.make_trainer("motion_gpt", root / "data", tmp_path, own=own, **more)
    with pytest.raises(ValueError, match=r"last\.pt has 2 attention heads, the config's model\.heads is 4"):
        trainer.resume()


def test_fused_adam(stepwise, tmp_path):
    """It is Adam but for the last bits, goes on bit for bit, and a run may change to it and back."""
    root, losses = stepwise
    more: dict = {"before": root / "runs", "fused": True, "save_steps": 1, "keep_last": 100}
    whole, found = synthetic.make_trainer("sep_vqvae", root / "data", tmp_path / "whole", **more)
    whole.run()
    # Adam turns rounding into a step where a gradient is about 0: 1e-7 at first, 1e-3 after 24 steps.
    assert found[:8] == pytest.approx(losses["sep_vqvae"][:8], rel=1e-4)
    assert found == pytest.approx(losses["sep_vqvae"], rel=1e-2)
    assert found != losses["sep_vqvae"]
    synthetic.make_trainer("sep_vqvae", root / "data", tmp_path / "parts", **more, epochs=2)[0].run()
    parts, _ = synthetic.make_trainer("sep_vqvae", root / "data", tmp_path / "parts", **more)
    assert parts.resume()
    parts.run()
    assert_same(*(torch.load(trainer.last, weights_only=True) for trainer in (whole, parts)))
    for fused, source in ((True, root / "runs" / "sep_vqvae"), (False, whole.folder)):
        changed = tmp_path / str(fused)
        (changed / "sep_vqvae" / "ckpt").mkdir(parents=True)
        shutil.copy(source / "ckpt" / f"step_{STEP:08d}.pt", changed / "sep_vqvae" / "ckpt" / "last.pt")
        trainer, rest = synthetic.make_trainer(
            "sep_vqvae", root / "data", changed, before=root / "runs", fused=fused
        )
        assert trainer.resume()
        assert bool(trainer.optimizer.param_groups[0]["fused"]) == fused
        trainer.run()
        assert rest == pytest.approx(losses["sep_vqvae"][-len(rest) :], rel=1e-2)


def as_format_2(content):
    """A checkpoint of the actor-critic as the version before wrote it: other names of keys and entries."""
    old, config = {**content, "format": 2}, copy.deepcopy(content["config"])
    config |= {"anchor": config.pop("kl_coef"), "choice": config.pop("selection")}
    config["choice"]["guard"] = config["choice"].pop("max_nll_increase")
    config["reward"]["beats"] = "released"
    former = {"max_grad_norm": "clip_gradient", "grad_accum_steps": "accumulate", "keep_last": "keep"}
    training = {former.get(key, key): value for key, value in config["training"].items()}
    config["training"] = {**training, "utilisation": True}
    selection = old.pop("selection")
    names = {"epochs_without_improvement": "waited", "initial_nll": "start"}
    old["choice"] = {names.get(key, key): value for key, value in selection.items()}
    names = {"song": "piece", "rewards": "earned"}
    dances = [{names.get(key, key): value for key, value in dance.items()} for dance in old.pop("rollouts")]
    return {**old, "config": config, "epoch_state": {"dances": dances}}


def test_a_checkpoint_of_the_version_before_is_resumed(stepwise, tmp_path, caplog):
    """Within an epoch, with a selection; nothing but the training keys that changed is reported."""
    root, _ = stepwise
    own = {"selection": {"by": "reward", "max_nll_increase": 9.0}, "turn": 2, "kl_coef": 0.1}
    more: dict = {"before": root / "runs", "own": own, "epochs": 2}
    whole, losses = synthetic.make_trainer(
        "actor_critic", root / "data", tmp_path / "whole", save_steps=1, keep_last=100, **more
    )
    whole.run()
    step = len(losses) // 2 + 3
    content = torch.load(whole.folder / "ckpt" / f"step_{step:08d}.pt", weights_only=True)
    assert content["batch"] == 3
    last = tmp_path / "old" / "actor_critic" / "ckpt" / "last.pt"
    last.parent.mkdir(parents=True)
    torch.save(as_format_2(content), last)
    trainer, found = synthetic.make_trainer("actor_critic", root / "data", tmp_path / "old", **more)
    with caplog.at_level(logging.WARNING):
        assert trainer.resume()
    assert [record.getMessage() for record in caplog.records] == [
        "changed keys that take effect now: training.save_steps (1 -> 0), training.keep_last (100 -> 2)"
    ]
    trainer.run()
    assert found == losses[step:]
    a, b = (torch.load(t.last, weights_only=True) for t in (whole, trainer))
    assert_same(a, b)
    for (path, x), (_, y) in zip(leaves(a["selection"]), leaves(b["selection"]), strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, path


def test_former_keys_and_values_are_read(stepwise, tmp_path, caplog):
    root, _ = stepwise
    own = {
        "anchor": 0.1,
        "choice": {"by": "reward", "guard": 1.0},
        "reward": {"beats": "released"},
        "turn": 2,
    }
    data = {"clips": {"frames": 240, "starts": "released"}}
    training = {"clip_gradient": 1.0, "accumulate": 2, "keep": 5, "utilisation": True}
    with caplog.at_level(logging.INFO):
        config = synthetic.make_config(
            "actor_critic", root / "data", tmp_path, data, root / "runs", own, **training
        )
    assert (config.kl_coef, config.selection.max_nll_increase) == (0.1, 1.0)
    assert config.reward.beats == config.data.clips.starts == "published"
    found = config.training
    assert (found.max_grad_norm, found.grad_accum_steps, found.keep_last) == (1.0, 2, 5)
    for old, new in (
        ("anchor", "kl_coef"),
        ("choice", "selection"),
        ("selection.guard", "selection.max_nll_increase"),
        ("training.keep", "training.keep_last"),
    ):
        assert f"the key {old} is now {new}" in caplog.text
    assert "the key training.utilisation is gone" in caplog.text
