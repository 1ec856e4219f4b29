from dataclasses import fields, replace

import numpy as np
import pytest

from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance, DanceFeatures, Reference, dance_features, score
from utils.metrics.dances import all_features
from utils.metrics.reference import FILE_NAME, MANIFEST, data_key
from utils.metrics.report import evaluate


def dances(num=5, seconds=2.0):
    music = [np.arange(5, 100, 20), None, np.zeros(0, int), np.arange(200) % 30 == 7]
    return [Dance(f"d{i}", smooth_dance(i, seconds), music[i % 4], song=f"s{i % 2}") for i in range(num)]


def same(a: DanceFeatures, b: DanceFeatures) -> None:
    for f in fields(DanceFeatures):
        one, two = getattr(a, f.name), getattr(b, f.name)
        if f.name == "physical":
            assert list(one) == list(two)
            np.testing.assert_array_equal(list(one.values()), list(two.values()))
        elif one is None:
            assert two is None
        else:
            np.testing.assert_array_equal(one, two)
            assert np.asarray(one).dtype.kind == np.asarray(two).dtype.kind


def test_features_survive_the_file(tmp_path):
    reference = Reference.of(dances(), key="k")
    path = tmp_path / "deep" / "features.npz"
    reference.save(path)
    again = Reference.load(path, key="k")
    assert again.names == reference.names
    for one, two in zip(reference.dances, again.dances, strict=True):
        same(one, two)
    assert [p.name for p in path.parent.iterdir()] == ["features.npz"]
    assert [d.name for d in again.named(["d3", "nobody", "d0"])] == ["d3", "d0"]


def test_files_of_other_data_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"extract_aist_features\.py --data"):
        Reference.load(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError, match=r"prepare_aistpp_data\.py"):
        Reference.load(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"{FILE_NAME} is missing"):
        Reference.load(tmp_path)
    Reference.of(dances(2), key=data_key(tmp_path)).save(tmp_path / FILE_NAME)
    assert len(Reference.load(tmp_path).dances) == 2
    (tmp_path / MANIFEST).write_text('{"changed": 1}')
    with pytest.raises(ValueError, match=r"of other data .* make it anew by: python extract_aist_features"):
        Reference.load(tmp_path)
    assert len(Reference.load(tmp_path / FILE_NAME).dances) == 2  # a file by itself is taken as it is

    half = (tmp_path / FILE_NAME).read_bytes()[:400]
    (tmp_path / "half.npz").write_bytes(half)
    with pytest.raises(ValueError, match=r"half.npz is damaged"):
        Reference.load(tmp_path / "half.npz")
    np.savez(tmp_path / "other.npz", joints=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds no reference features but: joints"):
        Reference.load(tmp_path / "other.npz")
    with np.load(tmp_path / FILE_NAME) as file:
        np.savez(tmp_path / "old.npz", **{**file, "reference_format": np.array(0)})
    with pytest.raises(ValueError, match="has format 0, this version reads"):
        Reference.load(tmp_path / "old.npz")


def test_cutting_and_the_starting_point():
    joints = smooth_dance(seconds=5)
    cut = dance_features(Dance("a", joints, np.array([3, 100, 200])), 120)
    short = dance_features(Dance("a", joints[:120] + np.array([5.0, 1.0, -3.0]), np.array([3, 100])))
    assert cut.frames == 120
    assert cut.music_beats.tolist() == [3, 100]
    np.testing.assert_allclose(cut.kinetic, short.kinetic, rtol=1e-6)  # the first root is subtracted
    np.testing.assert_array_equal(cut.geometric, short.geometric)
    assert dance_features(Dance("a", joints)).frames == 301


def test_other_frame_rates_are_brought_to_60():
    music = np.arange(4, 240, 15)
    slow = dance_features(Dance("a", smooth_dance(1, 8, 30), music, fps=30))
    fast = dance_features(Dance("a", smooth_dance(1, 8, 60), music * 2))
    assert slow.frames == fast.frames == 481
    assert slow.music_beats.tolist() == fast.music_beats.tolist()
    np.testing.assert_allclose(slow.kinetic[2::3], fast.kinetic[2::3], rtol=0.02)
    assert (
        dance_features(Dance("a", smooth_dance(1, 8, 30), fps=30), 120).frames == 119
    )  # 60 frames, doubled between


def test_bad_dances_are_named():
    good = dances(1)[0]
    with pytest.raises(ValueError, match="dance 'd0': joints must be finite"):
        dance_features(replace(good, joints=np.full((9, 24, 3), np.nan)))
    with pytest.raises(ValueError, match="dance 'd0': beat indices must be whole numbers"):
        dance_features(replace(good, music_beats=np.array([0.5])))
    with pytest.raises(ValueError, match="max_frames must be at least 2, got 1"):
        dance_features(good, 1)
    with pytest.raises(ValueError, match="there is no dance"):
        all_features([])
    with pytest.raises(ValueError, match="two dances have one name: d0"):
        all_features([good, good])


def outside_file(path, **changed):
    """Published features of five dances, as others keep them."""
    features = Reference.of(dances()).dances
    arrays = {name: np.stack([getattr(d, name) for d in features]) for name in ("kinetic", "geometric")}
    arrays["names"] = np.array([d.name for d in features])
    np.savez(path, **{**arrays, **changed})
    return path


def test_features_of_others(tmp_path):
    """FID and Div against a file of published features are those against the dances themselves."""
    real, own = Reference.of(dances()), [dance_features(d) for d in dances(4, 3.0)]
    other = Reference.load(outside_file(tmp_path / "theirs.npz"))
    assert other.names == real.names
    row, expected = score(own, other), score(own, real)
    assert row == pytest.approx(expected, nan_ok=True)
    report = evaluate(own, other)
    assert report.rows["real"]["FID_k"] > 0
    assert np.isnan(report.rows["real"]["BAS"])
    assert "theirs.npz" in report.markdown()
    with pytest.raises(ValueError, match=r"theirs.npz holds published features only.*use protocol bailando"):
        score(own, other, "corrected")
    named = outside_file(tmp_path / "bytes.npz", names=np.array([b"d0", b"d1", b"d2", b"d3", b"d4"]))
    assert Reference.load(named).names == real.names


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kinetic": np.zeros((5, 71))}, r"kinetic must be numbers \(5, 72\).*got float64 \(5, 71\)"),
        ({"geometric": np.zeros((4, 32))}, r"geometric must be numbers \(5, 32\)"),
        ({"geometric": np.full((5, 32), np.inf)}, r"geometric of d0 must be finite, column 0 is not"),
        ({"names": np.array(["a", "b", "a", "c", "d"])}, r"two different names, a comes 2 times"),
        ({"names": np.array([{}] * 5)}, r"is damaged \(Object arrays cannot be loaded"),
    ],
)
def test_wrong_features_of_others(tmp_path, changed, message):
    with pytest.raises(ValueError, match=rf"bad.npz.*{message}"):
        Reference.load(outside_file(tmp_path / "bad.npz", **changed))
