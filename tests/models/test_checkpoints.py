"""One way to trained weights: --train, --eval and --dance load the same ones, and former names are read."""

import re
from pathlib import Path

import pytest
import torch

from models.checkpoints import load_memory, load_policy
from models.inference.prompts import load_networks
from models.published.__main__ import export_file
from models.stages.registry import STAGES, read_config
from models.vqvae import ChoreographicMemory
from tests.models.stages.tiny import arguments, checkpoint
from utils.training.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def policies(trained, tmp_path_factory):
    """A GPT, and an actor-critic whose selected epoch 1 is not its last, 3; and each as a published file."""
    folder = tmp_path_factory.mktemp("policies")
    files = {"gpt": checkpoint(trained, "cc_motion_gpt")}
    content = load_checkpoint(checkpoint(trained, "actor_critic"), "")
    last = {key: value + 0.5 for key, value in content["model"].items()}
    selection = {**content["selection"], "epoch": 1}
    files["actor_critic"] = folder / "actor_critic.pt"
    save_checkpoint({**content, "model": last, "selection": selection, "epoch": 3}, files["actor_critic"])
    for name in list(files):
        plain = load_checkpoint(files[name], "")
        if "normalise_music" in plain["architecture"]["gpt"]:  # published GPTs do not normalise
            plain = without_statistics(plain)
            save_checkpoint(plain, folder / f"plain_{name}.pt")
        files[f"published_{name}"] = folder / f"published_{name}.pt"
        export_file(folder / f"plain_{name}.pt", files[f"published_{name}"])
    return files


def without_statistics(content):
    """A checkpoint of a GPT that does not normalise its music and has none of its features excluded."""
    gpt = {k: v for k, v in content["architecture"]["gpt"].items() if k in SIZES}

    def plain(state):
        return {key: value for key, value in state.items() if ".music_" not in key}

    content = {**content, "model": plain(content["model"])}
    if "selection" in content:
        content["selection"] = {**content["selection"], "weights": plain(content["selection"]["weights"])}
    return {**content, "architecture": {**content["architecture"], "gpt": gpt}}


SIZES = ("width", "heads", "base_blocks", "head_blocks", "context")


def same(gpt, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in gpt.state_dict().items())


@pytest.mark.parametrize("kind", ["gpt", "actor_critic", "published_gpt", "published_actor_critic"])
def test_train_eval_and_dance_use_the_same_weights(kind, policies, trained, small_data):
    path, device = policies[kind], torch.device("cpu")
    expected = load_policy(path, "").gpt
    if kind == "actor_critic":
        assert same(expected, load_policy(checkpoint(trained, "actor_critic"), "").gpt)
    published = kind.startswith("published")

    def config_of(stage, **keys):
        _, file, _, *overrides = arguments(stage, small_data, trained, "eval")
        return read_config(Path(file), [*overrides, *(f"{key}={value}" for key, value in keys.items())])

    def stage_of(config):
        return STAGES[config.stage](config, device)

    finetuning = stage_of(config_of("actor_critic", gpt=path))  # --train starts from this GPT
    assert same(finetuning.pretrained, expected)
    assert same(finetuning.model.gpt, expected)
    if "actor_critic" in kind or published:
        key = {"gpt": path} if published else {"checkpoint": path}
        judged = config_of("actor_critic", **key, **({"name": "no_run"} if published else {}))
    else:
        judged = config_of("cc_motion_gpt")
        assert judged.checkpoint_path == path
    stage = stage_of(judged)
    epoch = stage.load()
    assert same(stage.model.gpt if hasattr(stage.model, "gpt") else stage.model, expected)
    networks = load_networks(judged, device)
    assert same(networks.gpt, expected)
    assert networks.facts["checkpoint"] == str(path)
    if kind == "actor_critic":
        assert (epoch, networks.facts["epoch"]) == (3, 1)


def test_former_names_of_the_codebook_are_read(trained, tmp_path):
    path = checkpoint(trained, "sep_vqvae_root")
    content = load_checkpoint(path, "")
    former = {ChoreographicMemory.former_name(key): value for key, value in content["model"].items()}
    assert {"upper.codebook.codes", "lower.codebook.sums", "lower.codebook.counts"} <= former.keys()
    assert not any("quantizer" in key for key in former)
    memory = content["architecture"]["memory"]
    memory["codebook"]["restart_below"] = memory["codebook"].pop("dead_code_threshold")
    memory["codebook"]["restarts"] = "released"
    save_checkpoint({**content, "model": former}, tmp_path / "former.pt")
    ours = load_memory(path, "", velocity=True)
    read = load_memory(tmp_path / "former.pt", "", velocity=True)
    assert read.config == ours.config.model_copy(
        update={"codebook": ours.config.codebook.model_copy(update={"restarts": "published"})}
    )
    assert all(torch.equal(value, read.state_dict()[key]) for key, value in ours.state_dict().items())


def test_names_of_fsq_there_and_back():
    for key in ("upper.quantizer.levels", "lower.quantizer.to_grid.weight", "lower.decoder.out.bias"):
        assert ChoreographicMemory.current_name(ChoreographicMemory.former_name(key)) == key
    assert (
        ChoreographicMemory.former_name("upper.quantizer.to_grid.weight") == "upper.codebook.to_grid.weight"
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cc_motion_gpt", lambda c: c["architecture"].update(music_channels=438.5)),
        ("cc_motion_gpt", lambda c: c["architecture"].update(num_codes=[3])),
        ("cc_motion_gpt", lambda c: c["architecture"].pop("gpt")),
        ("cc_motion_gpt", lambda c: c.update(architecture=[])),
        ("cc_motion_gpt", lambda c: c.update(epoch="x")),
        ("cc_motion_gpt", lambda c: c["model"].update({next(iter(c["model"])): 3})),
        ("sep_vqvae_root", lambda c: c["architecture"].pop("velocity")),
        ("sep_vqvae_root", lambda c: c.pop("model")),
    ],
)
def test_damaged_content_is_told(trained, tmp_path, name, change):
    content = load_checkpoint(checkpoint(trained, name), "")
    del content["format"]
    change(content)
    path = tmp_path / "damaged.pt"
    save_checkpoint(content, path)
    with pytest.raises(ValueError, match=rf"checkpoint {re.escape(str(path))} is damaged"):
        load_policy(path, "") if name == "cc_motion_gpt" else load_memory(path, "", velocity=True)


def test_what_is_missing(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="made by: COMMAND"):
        load_policy(tmp_path / "none.pt", "COMMAND")
    path = checkpoint(trained, "sep_vqvae")
    with pytest.raises(ValueError, match=re.escape(f"{path} is a memory without its velocity branch")):
        load_memory(path, "", velocity=True)
    with pytest.raises(ValueError, match="is of stage 'sep_vqvae', here one of motion_gpt or actor_critic"):
        load_policy(path, "")
