"""A config that was changed before training goes on: the new value counts from here, or is refused."""

import logging
import re
import shutil
from typing import Any

import pytest
import torch

from models.stages.changes import GROUPS, fingerprint, group_of
from models.stages.registry import STAGES
from tests.docs.config_reference import own_fields, sections
from tests.helpers import ROOT
from tests.models.stages import synthetic

CONFIGS = {name: stage.Config for name, stage in STAGES.items()}
EPOCH = {
    "sep_vqvae": 6,
    "sep_vqvae_root": 6,
    "motion_gpt": 6,
    "actor_critic": 8,
    "sep_vqvae_root_mix": 6,
}  # steps; see test_resume


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All stages trained for two epochs, a checkpoint after every step."""
    root = tmp_path_factory.mktemp("runs")
    synthetic.make_data(root / "data")
    synthetic.train_all(root / "data", root / "runs", epochs=2, save_steps=1, keep_last=100)
    return root


def going_on(runs, tmp_path, name, step=None, **more: Any):
    """A trainer that is about to resume a copy of a run, from a step of it or its end."""
    source, target = runs / "runs" / name / "ckpt", tmp_path / name / "ckpt"
    target.mkdir(parents=True)
    shutil.copy(source / ("last.pt" if step is None else f"step_{step:08d}.pt"), target / "last.pt")
    more = {"before": runs / "runs", "epochs": 4, **more}
    root = more.pop("root", runs / "data")
    return synthetic.make_trainer(name, root, tmp_path, **more)[0]


def rates(trainer):
    """The learning rate of each further epoch."""
    found = []
    plain = trainer._train_epoch

    def recorded(epoch, logger):
        found.append((epoch, trainer.optimizer.param_groups[0]["lr"]))
        return plain(epoch, logger)

    trainer._train_epoch = recorded
    trainer.run()
    return found


@pytest.mark.parametrize("step", [None, 9])  # after two epochs, and within the second
def test_the_schedule_is_as_if_it_had_always_been_so(runs, tmp_path, step, caplog):
    changed: dict = {"lr": 1e-6, "milestones": [1, 3], "gamma": 0.5, "betas": [0.8, 0.95]}
    trainer = going_on(runs, tmp_path, "sep_vqvae", step, **changed)
    with caplog.at_level(logging.WARNING):
        assert trainer.resume()
    line = next(r.getMessage() for r in caplog.records if "take effect now" in r.getMessage())
    for text in ("training.lr (0.001 -> 1e-06)", "training.gamma (0.1 -> 0.5)", "training.milestones"):
        assert text in line
    group = trainer.optimizer.param_groups[0]
    assert tuple(group["betas"]) == (0.8, 0.95)
    assert trainer.scheduler.get_last_lr() == [group["lr"]]
    expected = {2: 5e-7, 3: 5e-7, 4: 2.5e-7}
    first = 2 if step else 3
    assert rates(trainer) == [(epoch, pytest.approx(expected[epoch])) for epoch in range(first, 5)]
    saved = torch.load(trainer.last, weights_only=True)
    assert saved["optimizer"]["param_groups"][0]["betas"] == (0.8, 0.95)


def test_the_moments_of_adam_stay(runs, tmp_path):
    trainer = going_on(runs, tmp_path, "motion_gpt", lr=1e-5)
    assert trainer.resume()
    before = torch.load(runs / "runs" / "motion_gpt" / "ckpt" / "last.pt", weights_only=True)["optimizer"]
    after = trainer.optimizer.state_dict()
    for number, state in before["state"].items():
        assert torch.equal(after["state"][number]["exp_avg_sq"], state["exp_avg_sq"])
        assert after["state"][number]["step"] == state["step"]


def test_a_smaller_rate_moves_weights_less(runs, tmp_path):
    start = torch.load(runs / "runs" / "motion_gpt" / "ckpt" / "last.pt", weights_only=True)["model"]
    moved = []
    for lr in (1e-3, 1e-6):
        trainer = going_on(runs, tmp_path / str(lr), "motion_gpt", lr=lr, milestones=[], epochs=3)
        trainer.resume()
        trainer.run()
        now = torch.load(trainer.last, weights_only=True)["model"]
        moved.append(max(float((now[key] - start[key]).abs().max()) for key in now))
    assert moved[1] < 0.01 * moved[0]


@pytest.mark.parametrize(
    ("name", "changed", "key"),
    [
        (
            "sep_vqvae",
            {"own": {"model": {"conv": {"dilation_growth": 2}}}},
            "model.conv.dilation_growth (3 -> 2)",
        ),
        ("sep_vqvae", {"own": {"model": {"codes_upper": 16}}}, "model.codes_upper (24 -> 16)"),
        ("motion_gpt", {"own": {"model": {"head_blocks": 2}}}, "model.head_blocks (1 -> 2)"),
        ("actor_critic", {"own": {"value": {"blocks": 2}}}, "value.blocks (1 -> 2)"),
        ("actor_critic", {"own": {"selection": {"by": "reward"}}}, "selection.by (last -> reward)"),
    ],
)
def test_what_decides_the_meaning_of_weights_is_refused(runs, tmp_path, name, changed, key):
    for section, values in changed["own"].items():  # the rest of the section stays
        changed["own"][section] = merged(synthetic.SIZES[name].get(section, {}), values)
    for step in (None, 3):
        trainer = going_on(runs, tmp_path / str(step), name, step, **changed)
        with pytest.raises(ValueError, match=re.escape(key)) as error:
            trainer.resume()
        assert "another name (name=...)" in str(error.value)
        assert "\n" not in str(error.value)


def merged(section, values):
    return {
        **section,
        **{k: merged(section.get(k, {}), v) if isinstance(v, dict) else v for k, v in values.items()},
    }


@pytest.mark.parametrize(
    ("name", "changed", "key"),
    [
        ("sep_vqvae", {"batch_size": 2}, "training.batch_size (4 -> 2)"),
        ("sep_vqvae", {"own": {"seed": 5}}, "seed (1 -> 5)"),
        ("motion_gpt", {"data": {"clips": {"frames": 240, "hop": 80}}}, "data.clips.hop (48 -> 80)"),
        (
            "actor_critic",
            {"own": {"songs": "train", "value": {"blocks": 1}, "turn": 2}},
            "songs (test -> train)",
        ),
        ("actor_critic", {"own": {"turn": 3, "songs": "test", "value": {"blocks": 1}}}, "turn (2 -> 3)"),
    ],
)
def test_what_decides_the_batches_that_are_left_waits_for_the_next_epoch(runs, tmp_path, name, changed, key):
    trainer = going_on(runs, tmp_path / "within", name, EPOCH[name] + 1, **changed)
    with pytest.raises(ValueError, match=re.escape(key)) as error:
        trainer.resume()
    assert "within epoch 2, after 1 of its batches" in str(error.value)
    assert "training.epochs=2" in str(error.value)
    trainer = going_on(
        runs,
        tmp_path / "between",
        name,
        EPOCH[name],
        **changed,
    )
    assert trainer.resume()
    assert trainer.epoch == 1
    trainer.run()
    assert torch.load(trainer.last, weights_only=True)["epoch"] == 4


def test_another_seed_decides_what_is_drawn_from_the_next_epoch_on(runs, tmp_path):
    """Dropout too: not only the order of clips."""
    order, dropout = [], []
    for seed in (1, 5):
        own = {"model": synthetic.GPT, "seed": seed}
        trainer = going_on(runs, tmp_path / str(seed), "motion_gpt", own=own, epochs=3)
        assert trainer.resume()
        order.append(trainer.stage.batches(3)._own)
        step = trainer._train_step
        trainer._train_step = lambda batch, step=step: (dropout.append(torch.get_rng_state()), step(batch))[1]
        trainer.run()
    assert order[0] != order[1]
    first, second = dropout[: len(dropout) // 2], dropout[len(dropout) // 2 :]
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_memory_that_was_trained_again_is_refused_and_a_moved_one_is_not(runs, tmp_path):
    shutil.copytree(runs / "runs", tmp_path / "moved")
    for name in synthetic.ORDER[1:]:
        trainer = going_on(runs, tmp_path / "same", name, before=tmp_path / "moved")
        assert trainer.resume()
    for memory in ("sep_vqvae", "sep_vqvae_root"):  # one more step, and all codes mean something else
        path = tmp_path / "moved" / memory / "ckpt" / "last.pt"
        content = torch.load(path, weights_only=True)
        content["model"]["lower.quantizer.codebook"][0] += 1
        torch.save({**content, "format": 1}, path)
    for name in {*synthetic.ORDER[1:]} - {"actor_critic"}:
        trainer = going_on(runs, tmp_path / "other", name, before=tmp_path / "moved")
        with pytest.raises(ValueError, match=r"last\.pt was trained with other values of vqvae \("):
            trainer.resume()
    with pytest.raises(
        ValueError, match=r"motion_gpt/ckpt/last\.pt was trained on the codes of another memory"
    ):
        going_on(runs, tmp_path / "other", "actor_critic", before=tmp_path / "moved")


def test_what_has_no_part_in_training_is_not_announced(runs, tmp_path, caplog):
    own = {"evaluation": {"split": "train", "players": 0}, "sample": {"length": 3}}
    trainer = going_on(runs, tmp_path, "sep_vqvae_root", own=own)
    with caplog.at_level(logging.WARNING):
        assert trainer.resume()
    (line,) = [r.getMessage() for r in caplog.records if "changed keys" in r.getMessage()]
    assert (
        line == "changed keys that take effect now: training.epochs (2 -> 4), training.save_steps (1 -> 0), "
        "training.keep_last (100 -> 2)"
    )


def test_rewards_that_were_measured_differently_are_not_compared(runs, tmp_path):
    own = {**synthetic.SIZES["actor_critic"], "selection": {"by": "reward", "max_nll_increase": 9.0}}
    trainer, _ = synthetic.make_trainer(
        "actor_critic", runs / "data", tmp_path, own=own, before=runs / "runs", epochs=1
    )
    trainer.run()
    selection = trainer.stage.selection
    again = {**own, "reward": {"beats": "paper"}}
    trainer, _ = synthetic.make_trainer(
        "actor_critic", runs / "data", tmp_path, own=again, before=runs / "runs", epochs=2
    )
    with pytest.raises(ValueError, match=r"reward\.beats \(published -> paper\)"):
        trainer.resume()
    again = {**own, "selection": {"by": "reward", "max_nll_increase": 2.5}}
    trainer, _ = synthetic.make_trainer(
        "actor_critic", runs / "data", tmp_path, own=again, before=runs / "runs", epochs=2
    )
    trainer.resume()
    assert trainer.stage.selection.max_nll == pytest.approx(selection.max_nll - 9.0 + 2.5)


def test_rewards_count_from_the_next_dances(runs, tmp_path, caplog):
    own = {**synthetic.SIZES["actor_critic"], "reward": {"beats": "paper"}}
    trainer = going_on(runs, tmp_path, "actor_critic", 3, own=own)
    with caplog.at_level(logging.WARNING):
        assert trainer.resume()
    text = "changed keys that take effect from the next epoch: reward.beats (published -> paper)"
    assert text in [r.getMessage() for r in caplog.records]


def keys():
    return sorted(f"{section.path}{key}" for section in sections(CONFIGS) for key in own_fields(section.cls))


def test_the_table_of_the_docs_has_every_key():
    page = (ROOT / "docs" / "FAQ.md").read_text()
    table = page.split("### What may I change before training goes on?")[1].split("###")[0]
    named = set(re.findall(r"`([\w.]+\*?)`", table))
    for _, patterns in GROUPS[:-1]:
        for pattern in patterns:
            if pattern not in ("stage", "model", "dance"):
                assert pattern in named, pattern


@pytest.mark.parametrize("group", [group for group, _ in GROUPS])
def test_every_group_has_keys(group):
    assert any(group_of(key) == group for key in keys())


def test_fingerprints_are_those_of_earlier_versions():
    """Otherwise no run of theirs could be resumed: what it was built on would count as something else."""
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 1, dtype=torch.int64)}
    recorded = "66fbca250fcd1b7453a89b199f84bf4f1c61cc6baaf563c04d35964df8280534"
    assert fingerprint(state) == fingerprint(dict(reversed(state.items()))) == recorded
