"""Configs: every shipped YAML parses, every kind of mistake gets its message, every key is read."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest
import yaml

from models.stages import STAGES, read_config
from tests.helpers import ROOT
from utils.config import ConfigError, write_yaml

YAMLS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_shipped_configs_parse_and_are_complete(path):
    """Each has every key, written out, and is named after its path."""
    config = read_config(path)
    assert config.name == path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    written = yaml.safe_load(path.read_text())
    missing = [key for key in _keys(type(config)) if not _has(written, key)]
    assert not missing, f"{path} leaves out {missing}"


def _keys(cls, prefix=""):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _keys(kind, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _has(content, key):
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


@pytest.mark.parametrize(
    "name", ["sep_vqvae", "sep_vqvae_root", "cc_motion_gpt", "actor_critic", "actor_critic_demo"]
)
def test_published_and_sample_configs_exist(name):
    assert (ROOT / "configs" / f"{name}.yaml").is_file()
    assert (ROOT / "configs" / "sample" / f"{name}.yaml").is_file()


def test_published_settings():
    memory = read_config(ROOT / "configs/sep_vqvae.yaml")
    assert (memory.training.lr, memory.training.betas, memory.training.batch_size) == (3e-5, (0.5, 0.999), 32)
    assert (memory.training.epochs, memory.training.milestones) == (500, (100, 200))
    assert (memory.model.conv.width, memory.model.codes_upper, memory.model.codebook.dim) == (512, 512, 512)
    assert (memory.loss.commitment, memory.data.clips.frames, memory.data.clips.hop) == (0.02, 240, 40)
    root = read_config(ROOT / "configs/sep_vqvae_root.yaml")
    assert (root.training.lr, root.training.betas, root.training.batch_size) == (5e-5, (0.9, 0.999), 8)
    gpt = read_config(ROOT / "configs/cc_motion_gpt.yaml")
    assert (gpt.training.lr, gpt.training.betas, gpt.training.milestones) == (3e-4, (0.5, 0.999), (250, 400))
    assert (gpt.model.width, gpt.model.heads, gpt.model.base_blocks, gpt.model.context) == (768, 12, 6, 29)
    critic = read_config(ROOT / "configs/actor_critic.yaml")
    assert (critic.training.lr, critic.training.batch_size, critic.training.epochs) == (1e-5, 128, 10)
    assert (critic.value.blocks, critic.turn, critic.discount, critic.reward.consistency) == (3, 5, 1.0, 0.0)


def test_every_wrong_key_is_named_at_once(tmp_path):
    content = yaml.safe_load((ROOT / "configs/sep_vqvae.yaml").read_text())
    content["traning"] = content["training"]
    content["training"] = {**content["training"], "batchsize": 3, "lr": "fast", "epochs": 0}
    del content["training"]["batch_size"], content["name"]
    content["model"]["conv"]["widht"] = 3
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        read_config(path)
    text = str(error.value)
    assert str(path) in text
    assert "traning: unknown key; did you mean 'training'?" in text
    assert "training.batchsize: unknown key; did you mean 'batch_size'?" in text
    assert "model.conv.widht: unknown key; did you mean 'width'?" in text
    assert "name: missing" in text
    assert "training.batch_size: missing" in text
    assert re.search(r"training\.lr: .*got 'fast'", text)
    assert re.search(r"training\.epochs: .*got 0", text)
    assert "7 wrong key(s)" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("- 1\n- 2", "must hold a mapping"),
        ("stage: x\nstage: y", "'stage' is given twice, in lines 1 and 2"),
        ("stage: dancing", "stage must be one of sep_vqvae"),
    ],
)
def test_broken_files(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_config(path)


def test_overrides():
    path = ROOT / "configs/sep_vqvae.yaml"
    config = read_config(
        path, ["training.lr=1e-4", "model.conv.width=32", "training.milestones=[3]", "seed=7"]
    )
    assert (config.training.lr, config.model.conv.width, config.training.milestones, config.seed) == (
        1e-4,
        32,
        (3,),
        7,
    )
    assert read_config(path).seed == 42
    for wrong, message in (
        ("seed", "not of the form"),
        ("seed.x=1", "'seed' is a value"),
        ("sed=1", "did you mean 'seed'"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_config(path, [wrong])


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"no config file configs/none\.yaml"):
        read_config(Path("configs/none.yaml"))


def test_resolved_config_reads_back(tmp_path):
    config = read_config(ROOT / "configs/actor_critic.yaml", ["seed=3"])
    write_yaml(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_every_key_is_read():
    """A key exists only if code reads it: each field is an attribute outside its own declaration."""
    code = "".join(
        path.read_text()
        for folder in ("models", "datasets", "utils")
        for path in (ROOT / folder).rglob("*.py")
    )
    code += (ROOT / "main.py").read_text()
    fields = {key.rsplit(".", 1)[-1] for stage in STAGES.values() for key in _keys(stage.Config)}
    unread = [field for field in sorted(fields) if not re.search(rf"\.{field}\b", code)]
    assert not unread
