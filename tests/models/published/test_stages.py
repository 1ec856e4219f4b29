"""Published files named in a config: the published evaluation, and what is refused.

The networks are tiny and random; the config and the command are those of the real evaluation. What it must do
is spelled out here once more, step by step, with nothing of models/stages and datasets/clips.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import main
from datasets.sequences import PreparedData, features_path, num_features, write_array
from models.checkpoints import load_memory, load_policy
from models.conv import ConvConfig
from models.gpt import GPTConfig
from models.published.__main__ import import_file
from models.published.names import gpt_table, memory_table
from models.quantizer import CodebookConfig
from models.vqvae import Codes, MemoryConfig
from tests.models.published.files import write
from tests.models.published.test_conversion import random_state
from utils.metrics import Dance, Reference, dance_features, score
from utils.smpl import forward_kinematics, rest_joints

MEMORY = MemoryConfig(
    codes_upper=40, codes_lower=30, codebook=CodebookConfig(dim=12), conv=ConvConfig(width=8, depth=1)
)
GPT = GPTConfig(width=16, heads=2, base_blocks=1, head_blocks=1)
TABLES = {
    "memory": memory_table(MEMORY, True),
    "memory_without": memory_table(MEMORY, False),
    "memory_mix": memory_table(MEMORY, True, True),
    "gpt": gpt_table(GPT, (40, 30), 438),
    "actor_critic": gpt_table(GPT, (40, 30), 438, 2),
}

MUSIC = "module.gpt_base.cond_emb.weight"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A published file of each kind, whose dances do not stand still."""
    folder = tmp_path_factory.mktemp("published")
    made = {}
    for kind, table in TABLES.items():
        state = random_state(table)
        for key, value in state.items():
            if not key.endswith("mask"):
                value.sub_(0.5).mul_(0.1 if key.endswith("bias") else 1.0)
        if MUSIC in state:
            state[MUSIC][:, 0] = 0  # the loudness, around -500, drowns everything
        if kind == "actor_critic":  # another policy than the plain GPT's
            state["module.gpt_head.head_up.weight"].neg_()
        made[kind] = write(folder / f"{kind}.pt", state, {"n_head": 2}, epoch=10)
    return made


@pytest.fixture(scope="module")
def compat(small_data, tmp_path_factory):
    """The small data with features of the form of compat: 438 columns, those of rhythm silent."""
    root = tmp_path_factory.mktemp("compat") / "data"
    shutil.copytree(small_data, root)
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["music"] |= {"version": "compat", "columns": num_features("compat")}
    for name, entry in manifest["songs"].items():
        features = np.zeros((entry["features"], num_features("compat")), np.float32)
        features[:, :52] = np.load(features_path(root, name))[:, :52]
        write_array(features_path(root, name), features)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def evaluate(config, data, output, *more):
    """The command of docs/PUBLISHED_WEIGHTS.md, without videos."""
    overrides = [
        f"data.root={data}",
        f"output={output}",
        "name=published",
        "evaluation.videos=0",
        "device=cpu",
    ]
    return main.main(["--config", f"configs/{config}.yaml", "--eval", *overrides, *map(str, more)])


def by_hand(data, name, memory, gpt):
    """Codes (N, 2) and joints (8 N, 24, 3) of the dance to a sequence's song, as published."""
    sequence = data.sequence(name)
    joints = np.array(sequence.joints[: len(sequence.beats)], np.float32)
    joints = np.concatenate([joints, joints[-1:].repeat(8 - len(joints) % 8, 0)])
    pose = joints - joints[:, :1]  # zeros in the root slot
    real = memory.encode(torch.from_numpy(pose.reshape(1, -1, 72)))
    music = torch.from_numpy(np.array(sequence.music, np.float32))
    music = torch.cat([music, music[-1:]])
    codes = torch.stack([real.upper[0, :1], real.lower[0, :1]], dim=1)  # (1, 2)
    for k in range(len(music) - 1):
        first = max(0, k + 1 - 28)
        upper, lower = codes[first:].T[:, None]
        logits = gpt(music[None, first + 1 : k + 2], Codes(upper, lower))
        following = torch.stack([logits.upper[0, -1].argmax(), logits.lower[0, -1].argmax()])
        codes = torch.cat([codes, following[None]])
    upper, lower = codes.T[:, None]
    pose = memory.decode(Codes(upper, lower))[0].view(-1, 24, 3)
    root = torch.cat([torch.zeros(1, 3), pose[:-1, 0].cumsum(0)])
    pose = torch.cat([torch.zeros_like(pose[:, :1]), pose[:, 1:]], dim=1)
    return codes.numpy(), (pose + root[:, None]).numpy()


@pytest.mark.parametrize("kind", ["actor_critic", "gpt"])
@torch.no_grad()
def test_the_published_evaluation_in_one_command(kind, files, compat, tmp_path):
    assert evaluate("actor_critic", compat, tmp_path, f"vqvae={files['memory']}", f"gpt={files[kind]}") == 0
    folder = tmp_path / "published" / "eval" / "epoch_0010_song"
    facts = json.loads((folder / "metrics.json").read_text())
    shown = {"actor_critic": "actor-critic", "gpt": "GPT"}[kind]
    assert {"actor-critic", "GPT"} & facts["rows"].keys() == {shown}
    data = PreparedData(compat)
    lists = data.manifest["splits"]["lists"]
    tested = sorted(lists["val"] + lists["test"])
    assert len(lists["val"]) == len(lists["test"]) == 1
    settings = facts["settings"]
    assert (settings["split"], facts["protocol"], settings["dances"]) == ("test", "bailando", 2)
    assert settings["cut to"].startswith("1200 frames")
    assert settings["real dances"].startswith("8, whole")
    memory = load_memory(files["memory"], "", velocity=True)
    gpt = load_policy(files[kind], "").gpt
    dances = []
    for name in tested:
        codes, joints = by_hand(data, name, memory, gpt)
        assert len(codes) == len(data.sequence(name).music) + 1
        assert len(np.unique(codes, axis=0)) > 5
        with np.load(folder / "motions" / shown / f"{name}.npz") as made:
            np.testing.assert_array_equal(made["codes"], codes)
            np.testing.assert_allclose(made["joints"], joints, rtol=1e-4, atol=1e-3)
            dances.append(
                Dance(name, made["joints"][:1200], data.sequence(name).beats, song=data.sequence(name).song)
            )
    every = [data.sequence(name) for name in data.names("all")]
    reference = Reference.of([Dance(s.name, np.array(s.joints), s.beats, song=s.song) for s in every])
    expected = score([dance_features(dance) for dance in dances], reference, "bailando")
    for metric in ("FID_k", "FID_g", "Div_k", "Div_g", "BAS"):
        np.testing.assert_allclose(facts["rows"][shown][metric], expected[metric], rtol=1e-6)


def test_published_rotations_are_judged_by_their_joints(files, compat, tmp_path):
    """Bailando++'s evaluation: nearest rotations, summed-up velocity, joints of the male SMPL body."""
    vqvae, gpt = files["memory_mix"], files["gpt"]
    assert evaluate("actor_critic", compat, tmp_path, f"vqvae={vqvae}", f"gpt={gpt}") == 0
    memory = load_memory(vqvae, "", velocity=True)
    name = PreparedData(compat).names("test")[0]
    folder = tmp_path / "published" / "eval" / "epoch_0010_song"
    with np.load(folder / "motions" / "GPT" / f"{name}.npz") as made:
        codes = Codes(*torch.from_numpy(made["codes"]).T[:, None])
        matrices = memory.decode_rotations(codes)[0].numpy().astype(np.float64)
        u, _, vt = np.linalg.svd(matrices)
        u[..., 2] *= np.linalg.det(u @ vt)[..., None]
        velocity = memory.decode_velocity(codes.lower)[0].double().numpy()
        root = np.concatenate([np.zeros((1, 3)), velocity[:-1].cumsum(0)])
        poses = Rotation.from_matrix((u @ vt).reshape(-1, 3, 3)).as_rotvec().reshape(len(root), 72)
        joints = forward_kinematics(poses, root - rest_joints("male")[0])
        np.testing.assert_allclose(made["joints"], joints, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(made["smpl_rotations"], u @ vt, atol=1e-4)


def test_a_run_of_its_own_goes_before_a_plain_gpt(files, compat, tmp_path):
    """With `checkpoint`, and without it where there is a run; the published GPT is then the row `GPT`."""
    names = [f"vqvae={files['memory']}", f"gpt={files['gpt']}", "value.blocks=2"]
    folder = tmp_path / "published" / "eval" / "epoch_0010_song"
    import_file(files["actor_critic"], tmp_path / "published" / "ckpt" / "last.pt")
    found = []
    for more in ([f"checkpoint={files['actor_critic']}"], []):
        assert evaluate("actor_critic", compat, tmp_path, *names, *more) == 0
        rows = json.loads((folder / "metrics.json").read_text())["rows"]
        assert rows["GPT"]["FID_k"] != rows["actor-critic"]["FID_k"]
        found.append(rows)
        shutil.rmtree(folder)
    assert found[0] == found[1]


def test_every_stage_takes_a_published_file(files, compat, tmp_path):
    sizes = ["model.width=16", "model.heads=2", "model.base_blocks=1", "model.head_blocks=1"]
    memory = f"vqvae={files['memory']}"
    assert evaluate("cc_motion_gpt", compat, tmp_path, memory, f"checkpoint={files['gpt']}", *sizes) == 0
    assert evaluate("sep_vqvae_root", compat, tmp_path, memory, f"checkpoint={files['memory']}") == 0
    assert evaluate("sep_vqvae_root_mix", compat, tmp_path, memory, f"checkpoint={files['memory_mix']}") == 0
    sizes = ["codes_upper=40", "codes_lower=30", "codebook.dim=12", "conv.width=8", "conv.depth=1"]
    sizes = [f"model.{size}" for size in sizes]
    assert evaluate("sep_vqvae", compat, tmp_path, f"checkpoint={files['memory_without']}", *sizes) == 0


def test_what_is_refused(files, compat, small_data, tmp_path, capsys):
    """Each in one line with what to do."""
    memory, gpt = f"vqvae={files['memory']}", f"gpt={files['gpt']}"
    small = ["model.width=16", "model.base_blocks=1", "model.head_blocks=1"]
    own = [*small, f"checkpoint={files['gpt']}"]
    features = f"'compat' music features, {small_data} holds 'beat_phase' ones; prepare the data with --feat"
    for config, data, more, message in (
        ("actor_critic", small_data, [memory, gpt], features),
        ("actor_critic", small_data, [memory, f"gpt={files['actor_critic']}"], features),
        ("cc_motion_gpt", small_data, [memory, *own, "model.heads=2"], features),
        ("cc_motion_gpt", compat, [memory, *own, "model.heads=4"], "has 2 attention heads"),
        ("cc_motion_gpt", compat, [memory, "model.heads=2", own[-1]], "is of another architecture"),
        ("actor_critic", compat, [f"vqvae={files['memory_without']}", gpt], "without its velocity branch"),
        ("actor_critic", compat, [f"vqvae={files['gpt']}", gpt], "is a published motion GPT; here a choreog"),
        ("actor_critic", compat, [memory, f"gpt={files['memory']}"], "is a published choreographic memory"),
        ("cc_motion_gpt", compat, [memory, "model.heads=2", *small, f"checkpoint={files['actor_critic']}"],
         "is a published actor-critic GPT; here a motion GPT is needed"),
    ):  # fmt: skip
        assert evaluate(config, data, tmp_path, *more) == 2, message
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_finetuning_starts_on_the_same_features_only(files, small_data, tmp_path, capsys):
    """Finetuning starts from a published GPT only with the features that one heard."""
    overrides = [f"data.root={small_data}", f"output={tmp_path}", f"vqvae={files['memory']}", "device=cpu"]
    command = ["--config", "configs/actor_critic.yaml", "--train", *overrides, f"gpt={files['gpt']}"]
    assert main.main(command) == 2
    assert "--features compat" in capsys.readouterr().err


def test_a_converted_file_is_no_run_to_go_on_with(files, compat, tmp_path, capsys):
    last = tmp_path / "gpt" / "ckpt" / "last.pt"
    import_file(files["gpt"], last)
    overrides = [f"data.root={compat}", f"output={tmp_path}", "name=gpt", f"vqvae={files['memory']}"]
    overrides += ["device=cpu", "model.width=16", "model.heads=2", "model.base_blocks=1"]
    overrides += ["model.head_blocks=1"]
    assert main.main(["--config", "configs/cc_motion_gpt.yaml", "--train", *overrides]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: checkpoint {last} holds weights but no state of training")
    assert len(error.strip().splitlines()) == 1
