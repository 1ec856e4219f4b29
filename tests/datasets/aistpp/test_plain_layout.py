"""Data of any kind in the plain layout, good and bad."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from datasets.aistpp import tasks
from datasets.aistpp.layouts import plain_plan
from datasets.aistpp.preparation import prepare
from datasets.aistpp.songs import MusicOptions
from datasets.aistpp.tasks import check_joints, longest_frozen
from datasets.sequences import PreparedData
from tests.datasets.aistpp.fakes import motion, write_wav
from utils.smpl import rest_joints

pytestmark = pytest.mark.usefixtures("quick_music")


def joints(frames=120):
    from datasets.aistpp.annotations import motion_joints

    return motion_joints(pickle.dumps(motion(frames)), "x", rest_joints())


@pytest.fixture
def own(tmp_path):
    root = tmp_path / "mine"
    for folder in ("motions", "splits"):
        (root / folder).mkdir(parents=True)
    np.save(root / "motions" / "one.npy", joints())
    np.savez(root / "motions" / "two.npz", joints=joints(90).astype(np.float64), fps=60)
    (root / "splits" / "train.txt").write_text("one\n")
    (root / "splits" / "test.txt").write_text("two\n")
    (root / "songs.json").write_text('{"two": "one"}')
    write_wav(root / "songs" / "one.wav")
    return root


def test_other_data_is_prepared_from_its_plain_layout(own, tmp_path):
    done = prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert (data.names("train"), data.names("test")) == (["one"], ["two"])
    assert (data.sequence("one").song, data.sequence("two").song) == ("one", "one")
    np.testing.assert_array_equal(data.sequence("one").joints, joints())
    assert data.sequence("two").joints.dtype == np.float32
    assert done.manifest["name"] == "mine"
    assert done.manifest["report"]["expected"] is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.npy", joints()[:, :22], r"wrong shape: joints are \(120, 22, 3\); \(T, 24, 3\) is needed"),
        ("bad.npy", np.where(np.arange(120)[:, None, None] == 5, np.nan, joints()), "NaN: 1 frames .* is 5"),
        ("bad.npy", joints().reshape(120, 72), r"wrong shape: joints are \(120, 72\)"),
        ("bad.npy", joints() * 100, "not metres: the body measures"),
        ("bad.npy", joints().astype(int), "wrong shape: .*int64"),
        ("bad.npy", np.array([{}], object), "unreadable: .*damaged or holds objects"),
        ("bad.npz", {"poses": joints()}, "wrong shape: .*no array 'joints'; it has: poses"),
        ("bad.npz", {"joints": joints(), "fps": 30}, "wrong rate: .*30 fps; 60 is needed"),
        ("bad.npz", {"joints": joints(), "fps": np.array([30])}, "wrong rate: .*30 fps; 60 is needed"),
        ("bad.npz", {"joints": joints(), "fps": [60, 30]}, "unreadable: motions/bad.npz: fps must be one"),
        ("bad.npz", b"PK\x03\x04 torn", "unreadable: .*damaged"),
    ],
)
def test_other_data_that_does_not_fit_is_left_out(own, tmp_path, name, content, reason):
    path = own / "motions" / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    (own / "songs.json").write_text('{"two": "one", "bad": "one"}')
    prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert data.names("all") == ["one", "two"]
    with pytest.raises(ValueError, match=reason):
        data.sequence("bad")


def test_an_error_that_nobody_thought_of_costs_one_dance(own, tmp_path, monkeypatch):
    np.save(own / "motions" / "bad.npy", joints(90))
    check = tasks.check_joints

    def fails(motion, skeleton):
        if len(motion) == 90 and motion.dtype == np.float32:
            raise TypeError("only 0-dimensional arrays can be converted")
        check(motion, skeleton)

    monkeypatch.setattr(tasks, "check_joints", fails)
    np.savez(own / "motions" / "array.npz", joints=joints(), fps=np.array([60]))
    prepare(plain_plan(own, MusicOptions(optional=True)), tmp_path / "out", {}, progress=False)
    data = PreparedData(tmp_path / "out")
    assert data.names("all") == ["array", "one", "two"]
    with pytest.raises(ValueError, match=r"unreadable: motions/bad.npy: TypeError: only 0-dimensional"):
        data.sequence("bad")


def test_the_longest_standstill_is_found():
    dance = joints(300)
    assert longest_frozen(dance)[1] == 1
    dance[50:80], dance[200:290] = dance[50], dance[200]
    assert longest_frozen(dance) == (200, 90)
    check_joints(dance)
    dance[100:260] = dance[200]
    with pytest.raises(ValueError, match="for 190 frames from frame 100"):
        check_joints(dance)


def test_what_claims_to_be_huge_is_not_read(own, tmp_path, monkeypatch):
    header = io.BytesIO()
    shape = (2**36, 24, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    (own / "motions" / "claim.npy").write_bytes(header.getvalue() + bytes(100))
    with zipfile.ZipFile(own / "motions" / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", bytes(3_000_000))
    np.save(own / "motions" / "long.npy", joints(2000))
    monkeypatch.setattr("datasets.aistpp.layouts.MOST_BYTES", 2_000_000)
    monkeypatch.setattr("datasets.aistpp.source.MOST_BYTES", 400_000)
    left_out = prepare(plain_plan(own, MusicOptions()), tmp_path / "out", {}, progress=False).manifest[
        "left_out"
    ]
    assert set(left_out) == {"claim", "bomb", "long"}
    assert "is damaged" in left_out["claim"]
    assert "GB unpacked" in left_out["bomb"]
    assert "at most 1 is read" in left_out["long"]
