"""Bad files where a published one is expected: one line that names the file and what is wrong with it."""

import builtins
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import pytest
import torch

from models.checkpoints import MEMORY_STAGES, read_checkpoint
from models.conv import ConvConfig
from models.gpt import GPTConfig, MotionGPT
from models.published import __main__ as command
from models.published.conversion import NETWORKS
from models.published.files import is_published, read_published
from models.published.names import gpt_table, memory_table
from models.quantizer import CodebookConfig
from models.vqvae import MemoryConfig
from tests.models.published.files import write
from utils.training.checkpoints import save_checkpoint

MEMORY = MemoryConfig(
    codes_upper=6, codes_lower=5, codebook=CodebookConfig(dim=4), conv=ConvConfig(width=3, depth=1)
)
GPT = GPTConfig(width=8, heads=2, base_blocks=1, head_blocks=2)
TABLES = {
    "memory": memory_table(MEMORY, True),
    "memory with rotations": memory_table(MEMORY, True, True),
    "gpt": gpt_table(GPT, (6, 5), 7),
    "actor_critic": gpt_table(GPT, (6, 5), 7, 1),
}


def state(kind):
    return {
        f"module.{key}": torch.ones(shape).tril() if key.endswith("mask") else torch.rand(shape)
        for key, (shape, *_) in TABLES[kind].items()
    }


def refused(path, *parts):
    """The one line that is said of the file."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        read_checkpoint(path, "COMMAND", tuple(NETWORKS))
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text
    return text


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", TABLES)
def test_good_ones_are_read(kind, zipped, tmp_path):
    path = write(
        tmp_path / "a.pt", state(kind), {"deep": {"n_head": 2, "list": [1, (2.5, None)]}}, zipped=zipped
    )
    content = read_checkpoint(path, "", tuple(NETWORKS))
    assert content["config"] == {"deep": {"n_head": 2, "list": [1, (2.5, None)]}}
    assert type(content["config"]["deep"]) is dict
    without = {key.removeprefix("module."): value for key, value in state(kind).items()}
    write(path, without, {"n_head": 2}, zipped=zipped)
    assert read_checkpoint(path, "", tuple(NETWORKS))["stage"] == content["stage"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0.03, 0.5, 0.99])
def test_truncated(zipped, keep, tmp_path):
    path = write(tmp_path / "a.pt", state("gpt"), zipped=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(path, "damaged")
    with pytest.raises(ValueError, match="damaged"):
        read_published(path)


def test_one_changed_byte_in_a_tensor(tmp_path):
    path = write(tmp_path / "a.pt", state("gpt"))
    content = bytearray(path.read_bytes())
    at = content.find(state("gpt")["module.gpt_base.blocks.0.attn.mask"].numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    refused(path, "checksum")


def test_no_torch_file(tmp_path):
    path = tmp_path / "a.pt"
    for content in (b"", b"hello", pickle.dumps({"model": 1})):
        path.write_bytes(content)
        assert not is_published(path)
        refused(path, "damaged")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.pt is missing"):
        read_published(path)
    with pytest.raises(FileNotFoundError, match="made by: COMMAND"):
        read_checkpoint(path, "COMMAND", ("motion_gpt",))


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, f"{os.system.__module__}.system"), (builtins.eval, "eval"), (builtins.getattr, "getattr"),
     (torch.hub.load, "torch.hub.load")],
)  # fmt: skip
def test_hostile_pickles_are_refused_by_name(function, name, zipped, tmp_path):
    witness = tmp_path / "witness"
    arguments = (f"touch {witness}",) if function is os.system else (f"open({str(witness)!r}, 'w')",)
    path = write(tmp_path / "a.pt", state("gpt"), {"n_head": Calls(function, *arguments)}, zipped=zipped)
    refused(path, "refused", name, "nothing but tensors and plain containers")
    write(path, {"module.gpt_base.pos_emb": Calls(function, *arguments)}, zipped=zipped)
    refused(path, name)
    assert not witness.exists()


@pytest.mark.parametrize(
    "name", ["easydict.EasyDict2", "easydict.os.system", "builtins.EasyDict", "easydict2.EasyDict"]
)
def test_only_easydict_itself_is_known(name, tmp_path, monkeypatch):
    module, _, cls = name.partition(".")
    content = b"\x80\x02}X\x05\x00\x00\x00model" + f"c{module}\n{cls}\n".encode() + b")\x81s."
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in (("data.pkl", content), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"a/{inner}", data)
    refused(path, "refused", name)


def test_an_easydict_runs_nothing(tmp_path):
    """Its state is attributes of a dict of ours; names of its methods are hidden, not run."""
    path = write(tmp_path / "a.pt", state("gpt"), {"n_head": 2, "clear": 1, "move_to_end": 2, "pop": 3})
    content = read_checkpoint(path, "", ("motion_gpt",))
    assert content["config"] == {"n_head": 2, "clear": 1, "move_to_end": 2, "pop": 3}


def test_what_plain_files_hold_instead(tmp_path):
    path = tmp_path / "a.pt"
    good = state("gpt")
    itself = {}
    itself["itself"] = itself
    for content, part in (
        ([1, 2], "those hold a dict with 'model', this holds list"),
        ({"state_dict": good}, "this holds 'state_dict'"),
        ({"model": {}}, "it has no tensors"),
        ({"model": {"resnet.weight": torch.zeros(1)}}, "its keys begin with resnet"),
        ({"model": {**good, "module.gpt_base.x": 3}}, "holds a int under model['module.gpt_base.x']"),
        ({"model": {**good, "gpt_base.pos_emb": torch.zeros(1)}}, "holds 'gpt_base.pos_emb' twice"),
        ({"model": good, "config": itself}, "more than 32 deep"),
        ({"model": good, "config": {"a": torch.zeros(1)}}, "a Tensor"),
        ({"model": good, "epoch": "ten"}, "its epoch is 'ten'"),
        ({"model": good, "config": {"n_head": 3}}, "attention heads [3]"),
        ({"model": good, "config": {"a": {"n_head": 2}, "b": {"n_head": 4}}}, "attention heads [2, 4]"),
    ):
        torch.save(content, path)
        refused(path, part)


@pytest.mark.parametrize("kind", TABLES)
def test_missing_extra_and_misshapen_keys_are_named(kind, tmp_path):
    path, good = tmp_path / "a.pt", state(kind)
    keys = list(good)
    bad = OrderedDict((key, value) for key, value in good.items() if key not in keys[7:12])
    bad["module.vqvae_up.new" if "memory" in kind else "module.gpt_base.new"] = torch.zeros(2)
    bad[keys[-2]] = torch.zeros(3, 3, 3)
    bad[keys[4]] = good[keys[4]].double()
    write(path, bad, {"n_head": 2})
    rotations = {"memory with rotations": "sep_vqvae_root_mix"}
    stage = {"memory": "sep_vqvae_root", "gpt": "motion_gpt", **rotations}.get(kind, kind)
    text = refused(path, f"no published {NETWORKS[stage]}: ")
    short = [key.removeprefix("module.") for key in keys]
    assert f"5 missing ({', '.join(short[7:10])} and 2 more)" in text
    assert re.search(r"1 unknown \(\w+\.new\)", text)
    assert f"1 of another shape ({short[-2]} is (3, 3, 3), not {tuple(good[keys[-2]].shape)})" in text
    assert f"1 not plain float32 ({short[4]} is torch.float64)" in text


def test_bad_values(tmp_path):
    path = tmp_path / "a.pt"
    bad = state("gpt")
    bad["module.gpt_head.blocks.1.attn.mask"] = torch.ones(1, 1, 29, 29)
    bad["module.gpt_base.cond_emb.bias"][3] = torch.nan
    write(path, bad, {"n_head": 2})
    masks = "1 not the mask of its block (gpt_head.blocks.1.attn.mask)"
    refused(path, masks, "1 not finite (gpt_base.cond_emb.bias)")


def test_another_stage(tmp_path):
    path = write(tmp_path / "a.pt", state("actor_critic"), {"n_head": 2})
    with pytest.raises(ValueError, match="published actor-critic GPT; here a choreographic memory or a chor"):
        read_checkpoint(path, "", MEMORY_STAGES)


def test_ours_and_published_in_each_others_place(tmp_path, capsys):
    gpt = MotionGPT(GPT, (6, 5), 7)
    ours, theirs, out = tmp_path / "ours.pt", tmp_path / "theirs.pt", tmp_path / "out.pt"
    content = {"stage": "motion_gpt", "architecture": {**gpt.architecture(), "music": "compat"}}
    save_checkpoint({**content, "model": gpt.state_dict(), "config": {}, "epoch": 1}, ours)
    write(theirs, state("gpt"), {"n_head": 2})
    for arguments, part in (
        (["import", ours, out], "is a checkpoint of this project, not a published one"),
        (["export", theirs, out], "has the published form already"),
        (["import", theirs, theirs], "is the source itself"),
        (["import", tmp_path / "none.pt", out], "is missing"),
        (["export", tmp_path / "none.pt", out], "is missing"),
    ):
        assert command.main([*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert part in error
        assert len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"normalise_music": True}, "base.music_deviation, base.music_mean has no place in a published file"),
        ({"cross_conditional": False}, "its halves are independent (cross_conditional: false)"),
        ({"embed": "codebook"}, "it embeds codebook vectors (embed: codebook), published ones embed indices"),
    ],
)
def test_what_has_no_published_form(tmp_path, capsys, more, message):
    gpt = MotionGPT(GPTConfig(width=8, heads=2, base_blocks=1, head_blocks=1, **more), (6, 5), 7, code_dim=3)
    ours, out = tmp_path / "ours.pt", tmp_path / "out.pt"
    content = {"stage": "motion_gpt", "architecture": {**gpt.architecture(), "music": "standard"}}
    save_checkpoint({**content, "model": gpt.state_dict(), "config": {}, "epoch": 1}, ours)
    assert command.main(["export", str(ours), str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
