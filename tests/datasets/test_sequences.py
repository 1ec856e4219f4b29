import json
import pickle

import numpy as np
import pytest

from datasets.sequences import FORMAT, PreparedData, motion_path, write_array, write_manifest


@pytest.fixture
def root(tmp_path):
    content = {
        "name": "toy", "skeleton": "smpl_24", "fps": 60,
        "music": {"version": "standard", "fps": 7.5, "columns": 438},
        "splits": {"train": ["a"], "test": []},
        "sequences": {"a": {"song": "s", "frames": 3}, "b": {"song": "none", "frames": 2, "genre": "BR"}},
        "songs": {"s": {"features": 2, "beats": 9, "audio": "s.wav"}},
        "left_out": {"c": "NaN: 3 frames"},
    }  # fmt: skip
    write_array(tmp_path / "motion" / "a.npy", np.ones((3, 24, 3), np.float32))
    write_array(tmp_path / "motion" / "b.npy", np.ones((2, 24, 3), np.float32))
    write_array(tmp_path / "music" / "s.features.npy", np.ones((2, 438), np.float32))
    write_array(tmp_path / "music" / "s.beats.npy", np.ones(9, bool))
    write_manifest(tmp_path, content)
    return tmp_path


def edit(root, **changes):
    path = root / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_sequences_and_songs_come_back(root):
    data = PreparedData(root)
    a, b = data.sequence("a"), data.sequence("b")
    assert (a.joints.shape, a.music.shape, a.beats.shape) == ((3, 24, 3), (2, 438), (9,))
    assert (b.joints.shape, b.music.shape, b.beats.shape) == ((2, 24, 3), (0, 438), (0,))
    assert (b.music.dtype, b.beats.dtype) == (np.float32, bool)
    assert (data.genre("a"), data.genre("b")) == ("", "BR")
    assert data.song("s").audio is None
    (root / "s.wav").write_bytes(b"x")
    assert data.song("s").audio == root / "s.wav"
    with pytest.raises(ValueError, match="read-only"):
        a.joints[0] = 0
    assert len(pickle.dumps(data)) < 10_000  # what a loader's worker is sent


def test_unknown_names_are_named(root):
    data = PreparedData(root)
    with pytest.raises(ValueError, match="'validation' is unknown"):
        data.names("validation")
    with pytest.raises(ValueError, match="no sequence 'd'"):
        data.sequence("d")
    with pytest.raises(ValueError, match="left out: NaN: 3 frames"):
        data.sequence("c")
    with pytest.raises(ValueError, match="no song 't'"):
        data.song("t")


def test_a_missing_folder_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"prepare_aistpp_data\.py --source DIR --out .*nothing"):
        PreparedData(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FORMAT + 1}, "has format 2"),
        ({"songs": []}, "songs missing or wrong"),
        ({"splits": {"train": []}}, r"splits\.test"),
        ({"music": {"fps": 7.5}}, r"music\.version, music\.columns"),
        ({"skeleton": "smpl_22"}, "skeleton 'smpl_22'"),
        ({"fps": 0}, "damaged: fps missing or wrong"),
        (
            {"music": {"version": "standard", "fps": float("inf"), "columns": 438}},
            r"damaged: music\.fps missing",
        ),
        ({"songs": {"s": [1]}}, r"songs\.s\.features, songs\.s\.beats missing or wrong"),
        ({"songs": {"s": {"features": -1, "beats": 2.5}}}, r"songs\.s\.features, songs\.s\.beats missing"),
        (
            {"sequences": {"a": {"frames": "3", "song": "s"}}, "splits": {"train": [], "test": []}},
            r"a\.frames",
        ),
        ({"splits": {"train": ["none", 3], "test": []}}, r"splits\.train: 'none', splits\.train: 3 missing"),
    ],
)
def test_a_damaged_manifest_is_told(root, changes, message):
    edit(root, **changes)
    with pytest.raises(ValueError, match=message):
        PreparedData(root)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"format": 1, "splits": 3, "music": 4}'])
def test_a_manifest_that_is_none_is_told(root, text):
    (root / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is (damaged|not a manifest)"):
        PreparedData(root)


def test_a_damaged_array_is_told_when_it_is_opened(root):
    data, path = PreparedData(root), motion_path(root, "a")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"a\.npy is damaged"):
        data.sequence("a")
    write_array(path, np.ones((4, 24, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(4, 24, 3\), the manifest says float32 \(3, 24, 3\)"):
        data.sequence("a")
    for header in (
        b"{'descr': ('<f4', 'shape'",
        b"{'descr': 9, 'fortran_order': 1}",
        b"\xff\xfe",
        b"(" * 9000,
    ):
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        with pytest.raises(ValueError, match=r"a\.npy is damaged"):
            data.sequence("a")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is missing though the manifest names it"):
        data.sequence("a")
    assert data.sequence("b").joints.shape == (2, 24, 3)


def test_a_failed_write_leaves_the_old_file_and_no_half_one(root):
    path = motion_path(root, "a")
    before = path.read_bytes()
    blocked = root / "motion" / "a.npy" / "below.npy"
    with pytest.raises(OSError, match="already prepared stays"):
        write_array(blocked, np.zeros(3))
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.npy", "b.npy"]
