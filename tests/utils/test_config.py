"""Configs: every shipped YAML parses, every kind of mistake gets its message, every key is read."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.stages.registry import STAGES, read_config
from tests.helpers import ROOT
from utils.config import ConfigError, ConfigModel, check, keys_of, merge, read_layers, section_of, write_yaml

YAMLS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.relative_to(ROOT / "configs").as_posix())
def test_shipped_configs_parse(path):
    """Each is named after its path; published ones have every key, derived ones only what differs."""
    config = read_config(path)
    assert config.name == path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    written = yaml.safe_load(path.read_text())
    if path.parent == ROOT / "configs" and "base" not in written:
        missing = [key for key in keys_of(type(config)) if not _has(written, key)]
        assert not missing, f"{path} leaves out {missing}"
    below = merge(read_layers(path)[:-1]) if "base" in written else {}
    held = [key for key in keys_of(type(config)) if _has(written, key)]
    same = [key for key in held if _has(below, key) and _of(written, key) == _of(below, key)]
    assert not same, f"{path} repeats {same} of its base"


def _has(content, key):
    for part in key.split("."):
        if content is None:  # an optional section that is left out
            return True
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _of(content, key):
    for part in key.split("."):
        if content is None:
            return None
        content = content[part]
    return content


@pytest.mark.parametrize(
    "name",
    [
        "sep_vqvae",
        "sep_vqvae_root",
        "sep_vqvae_root_mix",
        "cc_motion_gpt",
        "actor_critic",
        "actor_critic_demo",
        "cc_motion_gpt_music_trans",
        "actor_critic_music_trans_400",
        "actor_critic_music_trans_400_mix_rotmat",
    ],
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
    mix = read_config(ROOT / "configs/sep_vqvae_root_mix.yaml")
    assert (mix.training.lr, mix.training.betas, mix.training.batch_size) == (3e-5, (0.5, 0.999), 32)
    assert (mix.training.epochs, mix.training.milestones, mix.training.save_every) == (500, (100, 200), 20)
    assert (mix.loss.velocity, mix.loss.acceleration, mix.data.clips.hop) == (1.0, 1.0, 40)
    gpt = read_config(ROOT / "configs/cc_motion_gpt.yaml")
    assert (gpt.training.lr, gpt.training.betas, gpt.training.milestones) == (3e-4, (0.5, 0.999), (250, 400))
    assert (gpt.model.width, gpt.model.heads, gpt.model.base_blocks, gpt.model.context) == (768, 12, 6, 29)
    critic = read_config(ROOT / "configs/actor_critic.yaml")
    assert (critic.training.lr, critic.training.batch_size, critic.training.epochs) == (1e-5, 128, 10)
    assert (critic.value.blocks, critic.turn, critic.discount, critic.reward.consistency) == (3, 5, 1.0, 0.0)
    music = read_config(ROOT / "configs/cc_motion_gpt_music_trans.yaml")
    sizes = music.model.music_transformer
    assert (sizes.width, sizes.heads, sizes.blocks, sizes.dropout, sizes.reach) == (768, 12, 3, 0.1, 5)
    assert music.training == gpt.training
    critic_music = read_config(ROOT / "configs/actor_critic_music_trans_400.yaml")
    assert critic_music.training == critic.training.model_copy(update={"batch_size": 64})
    assert (critic_music.reward.beats, critic_music.reward.consistency) == ("paper", 0.0)


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
        ("seed.x=1", "seed: input should be a valid integer"),
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


@pytest.mark.slow
def test_every_key_is_read(tmp_path):
    """A key exists only if code reads it from its own section: shown by the type checker.

    In a copy of the sources each field of a config has another name, and no code follows. Each place that
    reads a field is then an error, which names the class and the field.
    """
    for folder in ("models", "datasets", "utils"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "pyproject.toml", "prepare_aistpp_data.py", "extract_aist_features.py"):
        shutil.copy(ROOT / name, tmp_path)
    classes = {cls for stage in STAGES.values() for cls in _sections(stage.Config)}
    for cls in classes:
        rename_fields(tmp_path / Path(inspect.getsourcefile(cls)).relative_to(ROOT), cls)
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--soft-error-limit=-1", "--cache-dir", tmp_path / "cache"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    read = set(re.findall(r'"(\w+)" has no attribute "(\w+)"', found.stdout))
    assert read, found.stdout + found.stderr
    unread = [
        f"{cls.__name__}.{key}"
        for cls in classes
        for key in vars(cls)["__annotations__"]
        if key in cls.model_fields
        and section_of(cls, key) is None  # a section is read on the way to its keys
        and not any((other.__name__, key) in read for other in classes if issubclass(other, cls))
        and (cls.__name__, key) not in read
    ]
    assert not unread


def _sections(cls):
    """The config models of a config: itself, those it inherits from, and its sections."""
    yield from (base for base in cls.__mro__ if issubclass(base, ConfigModel) and base is not ConfigModel)
    for key in cls.model_fields:
        if section_of(cls, key):
            yield from _sections(section_of(cls, key))


def rename_fields(path, cls):
    lines = path.read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith(f"class {cls.__name__}("))
    keys = [key for key in vars(cls)["__annotations__"] if key in cls.model_fields]
    fields = "|".join(key for key in keys if section_of(cls, key) is None)
    for i in range(first + 1, len(lines)):
        if re.match(r"\S", lines[i]):
            break
        lines[i] = re.sub(rf"^    ({fields}):", r"    \1__:", lines[i])
    path.write_text("".join(lines))


def derived(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_base(tmp_path):
    first = ROOT / "configs/sep_vqvae.yaml"
    second = derived(tmp_path, "second.yaml", f"base: {first}\nname: second\nmodel: {{conv: {{width: 8}}}}\n")
    third = derived(tmp_path, "third.yaml", "base: second.yaml\nname: third\nmodel: {codebook: {dim: 4}}\n")
    config = read_config(third, ["seed=5"])
    published = read_config(first)
    assert (config.name, config.model.conv.width, config.model.codebook.dim) == ("third", 8, 4)
    changed = {"seed": 5, "name": "third", "model": config.model}
    assert config == published.model_copy(update=changed)
    assert read_config(second).model.codebook == published.model.codebook


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("base: wrong.yaml", ConfigError, "is based on itself"),
        ("base: none.yaml", FileNotFoundError, "none.yaml does not exist"),
        ("base: [a]", ConfigError, "base must be the path of a YAML file, got ['a']"),
    ],
)
def test_wrong_base(tmp_path, text, error, message):
    with pytest.raises(error, match=re.escape(message)):
        read_config(derived(tmp_path, "wrong.yaml", text))


class Part(ConfigModel):
    """A section whose keys were renamed."""

    renamed = {"breadth": "width"}  # noqa: RUF012
    renamed_values = {"form": {"ball": "sphere"}}  # noqa: RUF012
    removed = {"colour": "red"}  # noqa: RUF012
    width: int = 1
    form: str = "cube"


class Whole(ConfigModel):
    """A config with that section."""

    part: Part = Part()


def test_former_keys(caplog):
    caplog.set_level("INFO")
    assert check(Whole, {"part": {"breadth": 3, "colour": "red"}}, "old.yaml").part.width == 3
    assert "old.yaml: the key part.breadth is now part.width" in caplog.text
    assert "old.yaml: the key part.colour is gone" in caplog.text
    assert check(Whole, {"part": {"form": "ball"}}, "old.yaml").part.form == "sphere"
    assert "old.yaml: the value ball of part.form is now sphere" in caplog.text
    with pytest.raises(ConfigError, match=re.escape("part.breadth is now part.width; both are given")):
        check(Whole, {"part": {"breadth": 3, "width": 3}}, "old.yaml")
    with pytest.raises(ConfigError, match=r"part\.colour is gone: it is always 'red' now, got 'blue'"):
        check(Whole, {"part": {"colour": "blue"}}, "old.yaml")
