"""--dance with a memory that decodes rotations: all files have them, and no body is fitted."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from models.stages.base import fingerprint_of_codes
from models.vqvae import ChoreographicMemory, Codes
from tests.models.inference.songs import RATE, SILENT, motion, sound
from utils.export.chain import worst_stretch
from utils.metrics.reading import read_dance
from utils.music import audio
from utils.skeleton import SMPL_24
from utils.training.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def mix(networks, files):
    """A checkpoint of the memory with rotation decoders beside the others, and that memory."""
    torch.manual_seed(0)
    plain, _ = networks
    memory = ChoreographicMemory(plain.config, velocity=True, rotations=True).eval()
    memory.load_state_dict(plain.state_dict(), strict=False)
    content = {"stage": "sep_vqvae_root_mix", "architecture": memory.architecture()}
    content |= {"model": memory.state_dict(), "config": {}, "epoch": 3}
    save_checkpoint(content, files["memory"].with_name("mix.pt"))
    return files["memory"].with_name("mix.pt"), memory


@pytest.mark.usefixtures("no_fit")
def test_every_file_has_the_decoded_rotations(dance, mix, songs, tmp_path):
    path, memory = mix
    formats = "dance.formats=[bvh,glb,smpl,html]"
    assert dance(songs / "three.m4a", formats, f"vqvae={path}", "dance.level=false") == 0
    made = motion(tmp_path / "out", "three")
    frames = len(made["joints"])
    halves = torch.from_numpy(made["codes"]).T
    expected = memory.decode_motion(Codes(*halves))
    np.testing.assert_allclose(made["smpl_rotations"], expected.rotations[:frames], atol=1e-6)
    relative = expected.joints - expected.joints[:, :1]
    np.testing.assert_allclose(made["joints"] - made["joints"][:, :1], relative[:frames], atol=1e-5)
    assert worst_stretch(made["joints"], SMPL_24).change < 1e-5
    with np.load(tmp_path / "out" / "three_smpl.npz") as file:
        turns = Rotation.from_rotvec(file["smpl_poses"].reshape(-1, 3)).as_matrix()
        np.testing.assert_allclose(turns.reshape(frames, 24, 3, 3), made["smpl_rotations"], atol=1e-5)
    body = read_dance(tmp_path / "out" / "three_smpl.npz").joints
    np.testing.assert_allclose(body, made["joints"], atol=1e-4)
    assert {path.suffix for path in (tmp_path / "out").glob("three*")} >= {".bvh", ".glb", ".html", ".npz"}


def test_codes_are_those_of_the_plain_memory(dance, mix, songs, tmp_path):
    assert dance(songs / "one.wav", *SILENT, out="plain") == 0
    assert dance(songs / "one.wav", *SILENT, f"vqvae={mix[0]}", out="mix") == 0
    plain, mixed = (motion(tmp_path / name, "one") for name in ("plain", "mix"))
    np.testing.assert_array_equal(plain["codes"], mixed["codes"])
    assert "smpl_rotations" not in plain
    assert mixed["smpl_rotations"].shape == (*mixed["joints"].shape, 3)


def test_rest_until_the_first_beat_has_rotations_too(dance, mix, tmp_path):
    audio.write_wav(tmp_path / "intro.wav", sound(4.0, first=2.0), RATE)
    assert dance(tmp_path / "intro.wav", *SILENT, "dance.start=beat", f"vqvae={mix[0]}") == 0
    made = motion(tmp_path / "out", "intro")
    turns = made["smpl_rotations"]
    assert len(turns) == len(made["joints"])
    still = int(np.flatnonzero((made["codes"] >= 0).all(1))[0]) * 8
    assert still > 80
    np.testing.assert_array_equal(turns[: still + 1], np.broadcast_to(turns[:1], turns[: still + 1].shape))
    assert (turns[still + 8] != turns[0]).any()


def test_a_gpt_of_another_memorys_codes_is_refused(dance, networks, mix, files, songs, tmp_path, capsys):
    content = load_checkpoint(files["gpt"], "")
    content["codes"] = fingerprint_of_codes(networks[0])
    save_checkpoint(content, tmp_path / "gpt.pt")
    own = [f"checkpoint={tmp_path / 'gpt.pt'}"]
    assert dance(songs / "one.wav", *SILENT, *own, f"vqvae={mix[0]}") == 0
    other = load_checkpoint(mix[0], "")
    other["model"]["lower.quantizer.codebook"][0] += 1
    save_checkpoint(other, tmp_path / "other.pt")
    capsys.readouterr()
    assert dance(songs / "one.wav", *SILENT, *own, f"vqvae={tmp_path / 'other.pt'}", out="other") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "gpt.pt was trained on the codes of another memory than that of" in line
    assert "(key vqvae)" in line
    assert not (tmp_path / "other").exists()
