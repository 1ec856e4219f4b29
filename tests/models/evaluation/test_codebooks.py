"""The look into the codebooks: the page of codes and its facts; other kinds of memories by commands."""

import base64
import json
import re

import numpy as np
import pytest
import torch

import main
from datasets.sequences import PreparedData
from models.checkpoints import load_memory
from models.evaluation.codebooks import encode_split, genre_shares, nearest_clips
from models.stages.sep_vqvae import CodebookHealth, usage
from tests.models.stages.tiny import arguments, checkpoint, run
from utils.render.codes import CodeCard, CodeSection, RealClip, write_code_page

FSQ = ["model.quantizer=fsq", "model.fsq.levels_upper=[4,3]", "model.fsq.levels_lower=[3,5]"]


@pytest.fixture(scope="module")
def folders(small_data, tmp_path_factory):
    """A memory of finite scalars, trained at once and in two parts; and one of the whole body."""
    at_once, in_two, whole = (tmp_path_factory.mktemp(name) for name in ("at_once", "in_two", "whole"))
    run("sep_vqvae", small_data, at_once, "train", "training.epochs=2", *FSQ)
    run("sep_vqvae", small_data, in_two, "train", "training.epochs=1", *FSQ)
    run("sep_vqvae", small_data, in_two, "train", "training.epochs=2", *FSQ)
    run("sep_vqvae", small_data, whole, "train", "training.epochs=1", "model.halves=whole")
    return at_once, in_two, whole


def page_data(path):
    text = path.read_text()
    assert not re.search(r"(?:https?:)?//(?!\s)[\w.]+\.\w+/|<link|<img|@import| src=", text)
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S)[1])


def test_finite_scalars_resume_bit_for_bit(folders):
    a, b = (torch.load(checkpoint(f, "sep_vqvae"), weights_only=True)["model"] for f in folders[:2])
    assert all(torch.equal(value, b[key]) for key, value in a.items())


def test_one_kind_refuses_the_other(folders, small_data, capsys):
    for mode, why in (
        ("eval", ("is of another architecture", "upper.quantizer.levels")),
        ("train", ("was trained with other values of ", "model.quantizer", "Restore them")),
    ):
        assert main.main(arguments("sep_vqvae", small_data, folders[0], mode, "training.epochs=3")) == 2
        error = capsys.readouterr().err
        assert all(part in error for part in why)
        assert len(error.strip().splitlines()) == 1


def test_later_stages_take_finite_scalars(folders, small_data):
    """Sizes of the GPT, first codes and random codes follow from the levels."""
    run("sep_vqvae_root", small_data, folders[0], "train", "training.epochs=1")
    run("sep_vqvae_root", small_data, folders[0], "sample", "sample.length=3")
    run("cc_motion_gpt", small_data, folders[0], "train", "training.epochs=1")
    state = torch.load(checkpoint(folders[0], "cc_motion_gpt"), weights_only=True)["model"]
    sizes = [value.shape[0] for key, value in state.items() if re.search(r"embed_(upper|lower)", key)]
    assert sizes == [12, 15]


def test_the_page_of_codes(folders, small_data):
    """Every used code once, the most used first, with the movement and genres that its uses have."""
    run("sep_vqvae", small_data, folders[0], "anl", *FSQ)
    folder = folders[0] / "sample" / "sep_vqvae" / "anl" / "epoch_0002"
    analysis, page = json.loads((folder / "analysis.json").read_text()), page_data(folder / "codes.html")
    assert [section["half"] for section in page["sections"]] == ["upper", "lower"]
    for section in page["sections"]:
        facts = analysis[section["half"]]
        counts = [card["count"] for card in section["cards"]]
        assert counts == sorted(counts, reverse=True)
        assert {str(c["code"]): c["count"] for c in section["cards"]} == {
            code: one["count"] for code, one in facts["per_code"].items()
        }
        assert len(counts) == facts["used"] == facts["codes"] - facts["dead"]
        for card in section["cards"]:
            assert len(base64.b64decode(card["motion"])) == 2 * 8 * 24 * 3
            assert sum(share for _, share in card["genres"]) == pytest.approx(1)
            assert 1 <= len(card["clips"]) <= 3


def test_the_whole_body_is_one_section(folders, small_data):
    whole = "model.halves=whole"
    run("sep_vqvae", small_data, folders[2], "anl", whole)
    folder = folders[2] / "sample" / "sep_vqvae" / "anl" / "epoch_0001"
    assert [section["half"] for section in page_data(folder / "codes.html")["sections"]] == ["whole"]
    assert (folder / "gallery_whole.png").is_file()
    run("sep_vqvae", small_data, folders[2], "eval", whole)


def test_the_nearest_clips_are_the_nearest(folders, small_data):
    """A slow search over all uses finds the same dances, times and distances."""
    memory, data = (
        load_memory(checkpoint(folders[0], "sep_vqvae"), "", velocity=False),
        PreparedData(small_data),
    )
    dances = encode_split(memory, data, "train")
    code = int(next(iter(dances.values())).upper[3])
    motion = np.random.default_rng(0).normal(size=(8, 24, 3)).astype(np.float32)
    best = {}
    for name, dance in dances.items():
        for place in np.flatnonzero(dance.upper.numpy() == code):
            real = data.sequence(name).joints[8 * place : 8 * place + 8]
            joints = list(memory.skeleton.upper)
            off = [real[:, j] - real[:, 0] - motion[:, j] + motion[:, 0] for j in joints]
            distance = np.mean([np.linalg.norm(o, axis=-1) for o in off])
            best[name] = min(best.get(name, (np.inf, 0)), (distance, place))
    expected = sorted((distance, name, place) for name, (distance, place) in best.items())[:3]
    others = {int(c): motion for d in dances.values() for c in d.upper}
    found = nearest_clips(memory, data, dances, "upper", others)[code]
    assert [clip.name for clip in found] == [name for _, name, _ in expected]
    np.testing.assert_allclose([clip.distance for clip in found], [d for d, _, _ in expected], rtol=1e-4)
    assert [clip.start for clip in found] == [place * 8 / 60 for _, _, place in expected]
    shares = genre_shares(dances, data, "upper")[code]
    uses = {
        g: sum(int((d.upper == code).sum()) for n, d in dances.items() if data.genre(n) == g) for g in shares
    }
    assert shares == {g: n / sum(uses.values()) for g, n in uses.items()}


def test_health():
    facts = usage(np.array([4, 0, 4, 0]))
    assert facts == {"used_codes": 2, "dead_codes": 2, "perplexity": pytest.approx(2)}


def test_health_of_an_epoch(folders):
    """What the batches of an epoch used, and nothing of the epoch before."""
    memory = load_memory(checkpoint(folders[0], "sep_vqvae"), "", velocity=False)
    health, first, second = CodebookHealth(memory), torch.randn(1, 64, 72), torch.randn(1, 64, 72)
    for poses in ([first, second], [second]):
        for pose in poses:
            health.count(memory(pose))
        logs = health.end_epoch()
        used = torch.cat([memory.encode(pose).upper for pose in poses], 1).unique()
        assert logs["used_codes_upper"] == len(used) == 12 - logs["dead_codes_upper"]
        assert "restarted_codes_upper" not in logs


def test_names_cannot_break_the_page(tmp_path):
    joints = np.zeros((8, 24, 3))
    bad = '</script><script>alert(1)</script>"&'
    clip = RealClip(bad, 1.0, 0.1, joints)
    card = CodeCard(3, 5, joints, {bad: 1.0}, [clip])
    path = tmp_path / "codes.html"
    write_code_page(path, bad, [CodeSection("upper", 4, 1.0, [card])], fps=60)
    assert "<script>alert" not in path.read_text()
    assert page_data(path)["sections"][0]["cards"][0]["clips"][0]["name"] == bad
    assert [file.name for file in tmp_path.iterdir()] == ["codes.html"]


def test_the_page_stays_small(tmp_path):
    """Two full codebooks of 512 codes: fewer real clips are played, all are named."""
    joints = np.random.default_rng(0).normal(size=(24, 24, 3))
    clips = [RealClip(f"dance {k}", 1.0, 0.1, joints) for k in range(3)]
    cards = [CodeCard(k, 1000 - k, joints[:8], {"break": 1.0}, clips) for k in range(512)]
    path = tmp_path / "codes.html"
    write_code_page(path, "big", [CodeSection(h, 512, 500.0, cards) for h in ("upper", "lower")], fps=60)
    assert 3e6 < path.stat().st_size < 5e6
    assert [bool(clip["motion"]) for clip in page_data(path)["sections"][1]["cards"][-1]["clips"]] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("joints", "message"),
    [(np.zeros((4, 3)), "expected"), (np.full((4, 24, 3), np.nan), "NaN"), (None, "no cards")],
)
def test_bad_cards_are_refused(tmp_path, joints, message):
    cards = [] if joints is None else [CodeCard(0, 1, joints, {}, [])]
    with pytest.raises(ValueError, match=message):
        write_code_page(tmp_path / "codes.html", "bad", [CodeSection("upper", 4, 1.0, cards)], fps=60)
    assert not list(tmp_path.iterdir())
