import json
import pickle

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from datasets.music import song_features
from tests.datasets.test_music import drums
from tests.helpers import golden, real_data
from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance, Reference
from utils.metrics.reading import dance_name, read_dance, read_dances
from utils.metrics.songs import Songs, track_beats, with_music
from utils.music.audio import write_wav
from utils.smpl import forward_kinematics, rest_joints

JOINTS = smooth_dance(seconds=1)


def test_every_kind_of_file_gives_the_same_dance(tmp_path):
    flat = JOINTS.reshape(-1, 72)
    np.savez(tmp_path / "a.npz", joints=JOINTS, beats=np.array([4, 30]), fps=60, song="mBR0")
    np.save(tmp_path / "b.npy", JOINTS)
    np.save(tmp_path / "c.npy", flat)
    np.save(tmp_path / "d.pkl.npy", {"pred_position": flat})
    np.save(tmp_path / "e.pkl.npy", {"pred_position": flat[None]})
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"joints": flat}))
    np.save(tmp_path / "g.npy", JOINTS[..., [0, 2, 1]] * [1, -1, 1])
    (tmp_path / "song.wav").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    found = read_dances(tmp_path)
    assert [d.name for d in found.dances] == list("abcdefg")
    for dance in found.dances[:-1]:
        np.testing.assert_array_equal(dance.joints, JOINTS)
    np.testing.assert_allclose(read_dance(tmp_path / "g.npy", up="z").joints, JOINTS, atol=1e-15)
    assert found.dances[0].music_beats.tolist() == [4, 30]
    assert found.dances[0].song == "mBR0"
    assert found.skipped["sub"] == "a folder"
    assert "not a dance: .wav" in found.skipped["song.wav"]
    assert read_dances(tmp_path / "b.npy", fps=30).dances[0].fps == 30
    assert read_dances(tmp_path / "a.npz", fps=30).dances[0].fps == 60  # what the file says wins
    assert dance_name(tmp_path / "gBR_x.pkl.npy") == "gBR_x"


def test_smpl_parameters(tmp_path):
    rng = np.random.default_rng(0)
    poses, translation = rng.normal(size=(20, 72)), rng.normal(size=(20, 3)) * 90
    content = {
        "smpl_poses": poses,
        "smpl_trans": translation,
        "smpl_scaling": np.array([90.0]),
        "smpl_loss": 0.1,
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    expected = forward_kinematics(poses, translation / 90, rest_joints("male"))
    np.testing.assert_allclose(read_dance(tmp_path / "x.pkl").joints, expected, atol=1e-12)
    for change, message in (
        ({"smpl_trans": translation[1:]}, r"must be \(20, 3\) to match the poses, got \(19, 3\)"),
        ({"smpl_poses": poses[:, :66]}, r"poses must be \(T, 72\)"),
    ):
        (tmp_path / "y.pkl").write_bytes(pickle.dumps(content | change))
        with pytest.raises(ValueError, match=message):
            read_dance(tmp_path / "y.pkl")


def test_real_pickles():
    found = read_dances(real_data() / "motions")
    assert len(found.dances) == 5
    assert {len(d.joints) for d in found.dances} == {720, 576, 1919}
    songs = Songs(real_data() / "music_beats_60fps.json")
    dances = [with_music(d, songs, None) for d in found.dances]
    assert all(len(d.music_beats) > 5 for d in dances)


def test_what_else_lies_in_a_folder_of_dances_is_passed_over_and_named(tmp_path):
    parameters = {"smpl_poses": np.zeros((20, 72)), "smpl_trans": np.zeros((20, 3))}
    for name in ("song", "song_v2"):
        np.savez(tmp_path / f"{name}.npz", joints=JOINTS)
        np.savez(tmp_path / f"{name}_smpl.npz", **parameters)
    np.savez(tmp_path / "alone_smpl.npz", **parameters)
    (tmp_path / "index.html").write_text("x")
    (tmp_path / "._song.npz").write_bytes(b"\0\5\x16\7" + bytes(100))
    (tmp_path / ".hidden.npy").write_bytes(b"")
    np.savez(tmp_path / "codes.npz", upper=[1, 2], lower=[3, 4])
    np.save(tmp_path / "labels.npy", np.arange(5))
    np.save(tmp_path / "song.features.npy", np.zeros((9, 438), np.float32))
    (tmp_path / "index.pkl").write_bytes(pickle.dumps(["song", "song_v2"]))
    found = read_dances(tmp_path)
    assert [dance.name for dance in found.dances] == ["alone_smpl", "song", "song_v2"]
    assert found.skipped["song_smpl.npz"] == "the SMPL parameters of song"
    assert found.skipped["song_v2_smpl.npz"] == "the SMPL parameters of song_v2"
    assert found.skipped["._song.npz"] == found.skipped[".hidden.npy"] == "a hidden file"
    assert found.skipped["codes.npz"].startswith("it holds upper, lower; one of joints, pred_position")
    assert "an array (5,)" in found.skipped["labels.npy"]
    assert "an array (9, 438)" in found.skipped["song.features.npy"]
    assert found.skipped["index.pkl"] == "it holds list, no array of numbers"
    assert len(found.skipped) == 9
    with pytest.raises(ValueError, match=r"there is no dance in .*codes.npz \(.*it holds upper"):
        read_dances(tmp_path / "codes.npz")
    np.save(tmp_path / "other.npy", np.zeros((20, 66)))  # joints, but of another skeleton: not passed over
    with pytest.raises(ValueError, match=r"other.npy: joints must be \(T, 24, 3\)"):
        read_dances(tmp_path)


@pytest.mark.parametrize("form", [60, 60.0, "60", [60], np.array([[60.0]]), np.full(60, 60, np.int32)])
def test_every_form_of_a_frame_rate(tmp_path, form):
    np.savez(tmp_path / "a.npz", joints=JOINTS, fps=form)
    assert read_dance(tmp_path / "a.npz", fps=30).fps == 60


@pytest.mark.parametrize("form", [[60, 30], [], "fast", np.nan])
def test_a_frame_rate_that_is_none(tmp_path, form):
    np.savez(tmp_path / "a.npz", joints=JOINTS, fps=form)
    with pytest.raises(ValueError, match=r"a\.npz: fps must be one number, got"):
        read_dance(tmp_path / "a.npz")


def test_beats_of_a_file_as_flags_of_any_type(tmp_path):
    flags = np.zeros(len(JOINTS), int)
    flags[[4, 30]] = 1
    for kind in (bool, np.uint8, np.int64, np.float32):
        np.savez(tmp_path / "a.npz", joints=JOINTS, music_beats=flags.astype(kind))
        assert read_dance(tmp_path / "a.npz").music_beats.tolist() == [4, 30]
    for wrong in (flags * 255, flags * 0.5, ["a", "b"]):
        np.savez(tmp_path / "a.npz", joints=JOINTS, music_beats=wrong)
        with pytest.raises(ValueError, match=r"a\.npz: music_beats: beat"):
            read_dance(tmp_path / "a.npz")


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_bad_files_are_named(tmp_path, capsys):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content, allow_pickle=True)
        return path

    nan = JOINTS.copy()
    nan[2, 0, 0] = np.nan
    cases = {
        write("nan.npy", nan): "got nan in frame 2, joint pelvis, axis x",
        write("one.npy", JOINTS[:1]): "at least 2 frames here, got 1",
        write(
            "shape.npy", np.zeros((5, 22, 3))
        ): r"joints must be \(T, 24, 3\) or \(T, 72\), got \(5, 22, 3\)",
        write("keys.pkl.npy", {"music": 1}): "it holds music; one of joints, pred_position",
        write("evil.npy", Evil()): "refused: it names .*print, which is not read from untrusted files",
        write("evil.pkl", pickle.dumps(Evil())): "refused",
        write("cut.pkl", pickle.dumps({"joints": JOINTS})[:200]): "damaged",
        write("empty.npy", b""): "empty.npy",
        write("text.npz", b"hello"): "text.npz",
        write(
            "scale.pkl", pickle.dumps({"smpl_poses": np.zeros((3, 72)), "smpl_trans": 0, "smpl_scaling": 0})
        ): "scaling",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            read_dance(path)
        assert str(path) in str(error.value)
    assert "executed" not in capsys.readouterr().out

    with pytest.raises(ValueError, match=r"there is no dance in .*cut.pkl: it is damaged"):
        read_dances(tmp_path, skip_bad=True)
    with pytest.raises(ValueError, match=r"\.(npy|pkl|npz): "):
        read_dances(tmp_path)
    write("good.npy", JOINTS)
    found = read_dances(tmp_path, skip_bad=True)
    assert [d.name for d in found.dances] == ["good"]
    assert len(found.skipped) == len(cases)
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        read_dances(tmp_path / "nowhere")


def test_reference_features_are_no_dance(tmp_path):
    reference = Reference.of([Dance("a", JOINTS), Dance("b", smooth_dance(1, 1))])
    reference.save(tmp_path / "reference_features.npz")
    np.save(tmp_path / "a.npy", JOINTS)
    assert "reference features" in read_dances(tmp_path).skipped["reference_features.npz"]


def test_songs_by_name(tmp_path):
    flags = np.zeros(90, bool)
    flags[[6, 36]] = True
    (tmp_path / "music").mkdir()
    np.save(tmp_path / "music" / "mBR0.beats.npy", flags)
    np.save(tmp_path / "music" / "mBR0.features.npy", np.zeros((9, 438)))
    np.savez(tmp_path / "music" / "mBR1.npz", beats=np.array([12, 42]))
    (tmp_path / "music" / "mine.txt").write_text("0.25\n1.5\n")
    (tmp_path / "music" / "more.json").write_text(
        json.dumps({"mLH0": {"frames": 9, "beats": [3]}, "mLH1": [60]})
    )
    songs = Songs(tmp_path)
    expected = {
        "gBR_sBM_cAll_d04_mBR0_ch01": [6, 36],
        "x_mBR1_ch02": [12, 42],
        "mine": [15, 90],
        "gLH_mLH0": [3],
        "gLH_mLH1_ch01": [60],
    }
    for name, beats in expected.items():
        assert with_music(Dance(name, JOINTS), songs, None).music_beats.tolist() == beats
    assert with_music(Dance("other", JOINTS), songs, None).music_beats is None
    assert with_music(Dance("other", JOINTS, song="mBR1"), songs, None).music_beats.tolist() == [12, 42]
    assert with_music(Dance("mine", JOINTS, fps=30), songs, None).music_beats.tolist() == [8, 45]
    own = Dance("mine", JOINTS, np.array([1]))
    assert with_music(own, songs, None) is own
    only = Songs(tmp_path / "music" / "mine.txt")
    assert with_music(Dance("anything", JOINTS), only, None).music_beats.tolist() == [15, 90]

    real = Reference.of([Dance("r", JOINTS, np.array([10, 40]))])
    assert with_music(Dance("r", JOINTS), None, real).music_beats.tolist() == [10, 40]
    assert (
        with_music(Dance("r", smooth_dance(seconds=3)), None, real).music_beats is None
    )  # not known to its end
    assert with_music(Dance("r", JOINTS[::2], fps=30), None, real).music_beats.tolist() == [5, 20]
    with pytest.raises(FileNotFoundError, match="songs or beats are expected"):
        Songs(tmp_path / "no")
    (tmp_path / "bad.json").write_text('{"a": [0.5]}')
    with pytest.raises(ValueError, match=r"bad.json: name -> beat frames is expected"):
        Songs(tmp_path / "bad.json")
    (tmp_path / "bad.txt").write_text("one")
    with pytest.raises(ValueError, match=r"bad.txt: no beats can be read"):
        Songs(tmp_path / "bad.txt").beats("bad")


def test_beat_frames_are_at_the_rate_that_is_given(tmp_path):
    frames = np.array([15, 30, 46, 61])
    (tmp_path / "a.json").write_text(json.dumps({"a": frames.tolist(), "b": {"fps": 60, "beats": [30, 60]}}))
    np.save(tmp_path / "c.npy", frames)
    np.savez(tmp_path / "d.npz", beats=frames, fps=40)
    np.save(tmp_path / "e.beats.npy", frames)  # of prepared data
    (tmp_path / "f.txt").write_text("1\n2\n3\n")
    songs = Songs(tmp_path, fps=30)
    expected = {"a": frames / 30, "b": [0.5, 1.0], "c": frames / 30, "d": frames / 40, "e": frames / 60}
    for name, times in (expected | {"f": [1.0, 2.0, 3.0]}).items():
        np.testing.assert_allclose(songs.beats(name), times)
    assert songs.unused == []
    dance = with_music(Dance("a", JOINTS[::2], fps=30), songs, None)
    np.testing.assert_array_equal(dance.music_beats, frames)
    few = Songs(tmp_path, fps=30)
    few.beats("x", "c")
    assert few.unused == ["a", "b", "d", "e", "f"]


def test_beats_of_a_song(tmp_path):
    """Clicks every half second are found; the published 60-fps beats of the golden song are met exactly."""
    features, sound = golden("audio_features_librosa011.npz"), golden("audio_inputs.npz")["mono_30720"]
    wavfile.write(tmp_path / "song.wav", 30720, sound.astype(np.float32))
    beats = track_beats(tmp_path / "song.wav")
    np.testing.assert_array_equal(np.round(beats * 60), features["beats_mono_30720"])


@pytest.mark.parametrize("version", ["standard", "compat"])
def test_beats_of_songs_are_those_of_prepared_data(tmp_path, version):
    """Of any file that preparation reads: damaged, with an inverted channel, under any suffix."""
    sound = np.stack([drums(120, 6.0, 44100)] * 2, axis=1)
    write_wav(tmp_path / "a.wav", sound, 44100)
    write_wav(tmp_path / "b.wav", sound * [1, -1], 44100)
    soundfile.write(tmp_path / "c.aif", sound, 44100, format="AIFF")
    soundfile.write(tmp_path / "d.mp3", sound, 44100)
    (tmp_path / "d.mp3").write_bytes((tmp_path / "d.mp3").read_bytes() + bytes(4000))
    (tmp_path / "cover.jpg").write_bytes(b"x")
    (tmp_path / "._a.wav").write_bytes(b"x")
    songs = Songs(tmp_path, version)
    for path in (tmp_path / name for name in ("a.wav", "b.wav", "c.aif", "d.mp3")):
        expected = np.flatnonzero(song_features(path, version).beats)
        np.testing.assert_array_equal(np.round(songs.beats(path.stem) * 60), expected)
        assert (len(expected) > 8) == (path.stem != "b" or version == "standard")
    assert sorted(songs.skipped) == ["._a.wav", "cover.jpg"]
    np.save(tmp_path / "c.beats.npy", np.array([30, 60]))
    assert Songs(tmp_path, version).beats("c").tolist() == [0.5, 1.0]  # known beats are not tracked again
    (tmp_path / "a.wav").rename(tmp_path / "song")
    assert len(Songs(tmp_path / "song", version).beats("any")) > 8


def test_songs_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "bad.m4a").write_bytes(b"no sound")
    write_wav(tmp_path / "short.wav", np.ones(44100) / 2, 44100)
    with pytest.raises(ValueError, match=r"bad\.m4a is no sound file that can be read.*expected wav"):
        Songs(tmp_path).beats("bad")
    with pytest.raises(ValueError, match=r"short\.wav: 1\.00 s of music are too short"):
        Songs(tmp_path).beats("short")
