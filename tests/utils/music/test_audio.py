"""Reading sound: equal to librosa for wav, and a clear line for every kind of bad file."""

import re
import struct
import wave

import av
import librosa
import numpy as np
import pytest
import soundfile

from utils.music.audio import audio_seconds, decode_audio, resample, stereo_blocks, write_wav
from utils.render.movie import read_song
from utils.render.player_song import song_bytes


def tone(seconds=1.0, rate=44100, channels=1, seed=0):
    """Sines and a little noise, (N, channels) float64 in [-0.6, 0.6]."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, (len(t), channels))
    return noise + np.stack([0.5 * np.sin(2 * np.pi * 220 * (c + 1) * t) for c in range(channels)], axis=1)


def encode(path, codec, rate=44100, seconds=1.0, channels=2, video=False):
    """A file made by PyAV: a container by its suffix, one sound track, perhaps a picture track."""
    sound = tone(seconds, rate, channels).astype(np.float32)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(str(path), "w") as container:
        if video:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width = picture.height = 32
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if video:
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.reshape(1, -1)), format="flt", layout=layout
        )
        frame.sample_rate = rate
        pieces = av.AudioResampler(stream.format, layout, rate, frame_size=stream.frame_size or 1024)
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return sound.mean(axis=1)


def alike(samples, sound):
    """Whether a lossy copy is the sound; a coder may start with up to 1024 samples of silence."""
    delays = [np.corrcoef(samples[d : len(sound) - 2000 + d], sound[:-2000])[0, 1] for d in (0, 1024)]
    return max(delays) > 0.95


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # in what librosa.load imports
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("target", [44100, 30720, 3840])
def test_wav_equals_librosa(tmp_path, subtype, channels, target):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(0.3, 44100, channels), 44100, subtype=subtype)
    ours = resample(*decode_audio(path), target)
    theirs, _ = librosa.load(path, sr=target, mono=True)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)
    assert np.abs(ours).max() > 0.1


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("flac", "flac"), ("ogg", "libopus")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_other_formats(tmp_path, suffix, codec, channels):
    path = tmp_path / f"tóne 音.{suffix}"
    sound = encode(path, codec, rate=48000 if suffix == "ogg" else 44100, channels=channels)
    samples, rate = decode_audio(path)
    assert abs(len(samples) - len(sound)) < 3000  # a lossy coder pads
    assert alike(samples, sound)
    assert audio_seconds(path) == pytest.approx(1.0, abs=0.07)
    assert len(resample(*decode_audio(path), 3840)) == int(np.ceil(len(samples) * 3840 / rate))


def test_sound_of_a_video(tmp_path):
    sound = encode(tmp_path / "dance.mp4", "aac", video=True)
    assert alike(decode_audio(tmp_path / "dance.mp4")[0], sound)


def test_mp3_with_a_wav_name_is_read(tmp_path):
    encode(tmp_path / "tone.mp3", "libmp3lame")
    (tmp_path / "tone.mp3").rename(tmp_path / "tone.wav")
    assert audio_seconds(tmp_path / "tone.wav") == pytest.approx(1.0, abs=0.07)
    assert np.abs(resample(*decode_audio(tmp_path / "tone.wav"), 3840)).max() > 0.2


def test_write_wav_round_trip(tmp_path):
    sound = tone(0.5, 22050, 2)
    path = tmp_path / "new" / "folder" / "tone.wav"
    write_wav(path, sound, 22050)
    assert [p.name for p in path.parent.iterdir()] == ["tone.wav"]
    np.testing.assert_allclose(resample(*decode_audio(path), 22050), sound.mean(axis=1), atol=1e-4)
    assert audio_seconds(path) == pytest.approx(0.5)
    write_wav(path, np.array([-3.0, 0.0, 3.0]), 22050)
    np.testing.assert_allclose(resample(*decode_audio(path), 22050), [-1, 0, 1], atol=1e-4)


@pytest.mark.parametrize("samples", [np.zeros((2, 3, 4)), np.array([0.0, np.nan])])
def test_write_wav_refuses(tmp_path, samples):
    with pytest.raises(ValueError, match=r"tone\.wav.*finite samples"):
        write_wav(tmp_path / "tone.wav", samples, 8000)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tone.wav"
    write_wav(path, tone(0.1)[:, 0], 44100)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wave.Wave_write, "writeframes", full)
    with pytest.raises(OSError, match="No space"):
        write_wav(path, tone(0.2)[:, 0], 44100)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tone.wav"]


# ---------------------------------------------------------------- bad files


def test_missing_file(tmp_path):
    for path in (tmp_path / "nothing.wav", tmp_path):
        for read in (lambda p: resample(*decode_audio(p), 3840), audio_seconds):
            with pytest.raises(FileNotFoundError, match=str(path)):
                read(path)


def song(path, codec="libmp3lame", seconds=6.0):
    """A sound file of a few seconds, and its bytes."""
    encode(path, codec, rate=48000 if codec == "libopus" else 44100, seconds=seconds)
    return path.read_bytes()


def told(caplog):
    """The warnings so far; they are forgotten."""
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    return texts


JUNK = {
    "zeros behind": lambda whole: whole + bytes(4000),
    "zeros within": lambda whole: whole[: len(whole) // 2] + bytes(700) + whole[len(whole) // 2 :],
    "noise within": lambda whole: (
        whole[: len(whole) // 2] + np.random.default_rng(0).bytes(700) + whole[len(whole) // 2 :]
    ),
    "noise over": lambda whole: (
        whole[: len(whole) // 2] + np.random.default_rng(0).bytes(700) + whole[len(whole) // 2 + 700 :]
    ),
}


@pytest.mark.parametrize("kind", JUNK)
@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("aac", "aac"), ("flac", "flac")])
def test_a_little_junk_is_passed_over(tmp_path, caplog, suffix, codec, kind):
    path = tmp_path / f"song.{suffix}"
    whole = song(path, codec)
    clean, rate = decode_audio(path)
    assert not told(caplog)
    path.write_bytes(JUNK[kind](whole))
    samples, _ = decode_audio(path)
    decode_audio(path)
    assert abs(len(samples) - len(clean)) < 0.05 * rate
    half = len(clean) // 2 - 12_000
    np.testing.assert_array_equal(samples[:half], clean[:half])
    # What follows the junk is at its place: the file's clock goes on, so lost frames are silent.
    shifts = [(np.corrcoef(samples[-60_000 + d : -20_000 + d], clean[-60_000:-20_000])[0, 1], d)
              for d in range(-2400, 2401)]  # fmt: skip
    assert max(shifts)[0] > 0.99
    texts = told(caplog)
    if not (suffix == "flac" and kind.startswith("zeros")):  # FLAC's own reader passes over zeros
        assert len(texts) == 1
        assert "song." + suffix in texts[0]
        assert "damage was passed over" in texts[0]
    if kind == "zeros behind" and suffix != "flac":
        assert "0.00 of 6.0" in texts[0]
        assert "4000 bytes are no sound" in texts[0]
    stereo = sum(block.shape[1] for block in stereo_blocks(path, rate))
    assert stereo == pytest.approx(len(samples), abs=2)


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("aac", "aac")])
@pytest.mark.parametrize("fill", ["zeros", "noise", "end"])
def test_half_a_song_is_refused_by_every_reader(tmp_path, suffix, codec, fill):
    path = tmp_path / f"song.{suffix}"
    whole = song(path, codec)
    if (fill, suffix) == ("end", "aac"):
        pytest.skip("a stream without a header may end anywhere")
    half = len(whole) // 2
    rest = {"zeros": bytes(half), "noise": np.random.default_rng(0).bytes(half), "end": b""}[fill]
    path.write_bytes(whole[: len(whole) - half] + rest)
    for read in (decode_audio, lambda p: list(stereo_blocks(p, 48000)), lambda p: song_bytes(p, 1.0),
                 lambda p: read_song(p, 1.0)):  # fmt: skip
        with pytest.raises(ValueError, match=rf"song\.{suffix} is (cut off|damaged): .* again"):
            read(path)


def test_a_lost_page_is_silent_and_the_rest_at_its_place(tmp_path, caplog):
    path = tmp_path / "song.ogg"
    whole = song(path, "libopus")
    clean, rate = decode_audio(path)
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(300) + whole[half + 300 :])
    samples, _ = decode_audio(path)
    assert len(samples) == pytest.approx(len(clean), abs=rate // 100)
    np.testing.assert_allclose(samples[-rate:], clean[-rate:], atol=1e-3)
    assert "1.00 of 6.00 s are missing" in told(caplog)[0]


def test_a_song_that_ends_a_little_early_is_used(tmp_path, caplog):
    path = tmp_path / "song.wav"
    write_wav(path, tone(10)[:, 0], 44100)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 9 * 44100])
    assert len(resample(*decode_audio(path), 44100)) == 9 * 44100
    assert told(caplog) == [
        f"{path} is cut off: it ends after 9.00 s where its header says 10.00 s; what is there is used"
    ]


def test_tags_at_the_end_of_an_mp3_are_no_damage(tmp_path, caplog):
    path = tmp_path / "song.mp3"
    whole = song(path)
    clean, _ = decode_audio(path)
    name = b"Cover Art (Front)\0"
    item = struct.pack("<II", 40_000, 2 << 1) + name + np.random.default_rng(0).bytes(40_000)
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags << 29) + bytes(8)
        for flags in (5, 4)
    )
    for tags in (head + item + foot, b"TAG" + bytes(125), head + item + foot + b"TAG" + bytes(125)):
        path.write_bytes(whole + tags)
        samples, _ = decode_audio(path)
        np.testing.assert_allclose(samples[: len(clean)], clean, atol=1e-6)
        assert len(samples) - len(clean) < 1200  # the last frame is not trimmed
    assert not told(caplog)


@pytest.mark.parametrize("other", [(22050, 2), (48000, 1), (44100, 1)])
def test_rate_and_channels_may_change_half_way(tmp_path, other):
    path = tmp_path / "song.mp3"
    first = song(path)
    encode(path, "libmp3lame", rate=other[0], channels=other[1], seconds=6.0)
    path.write_bytes(first + path.read_bytes())
    samples, rate = decode_audio(path)
    assert rate == 44100
    assert len(samples) / rate == pytest.approx(12.1, abs=0.1)
    assert sum(b.shape[1] for b in stereo_blocks(path, 48000)) / 48000 == pytest.approx(12.1, abs=0.1)
    expected = np.abs(np.fft.rfft(samples[8 * rate : 9 * rate]))
    assert np.argmax(expected) in (220, 440)  # the tones are still the tones: nothing plays at another speed
    assert song_bytes(path, 12.0)
    assert read_song(path, 12.0).shape == (2, 12 * 48000)


def test_a_channel_that_is_inverted_is_heard(tmp_path, caplog):
    sound = tone(1.0, 44100, 1)[:, 0]
    for gain in (1.0, 0.8):
        path = tmp_path / f"inverted{gain}.wav"
        write_wav(path, np.stack([gain * sound, -sound], axis=1), 44100)
        np.testing.assert_allclose(decode_audio(path)[0], (-sound, gain * sound)[gain == 1], atol=1e-4)
        assert re.search(r"inverted.*cancel.*channel [12] alone is used", "".join(told(caplog)))
        published, _ = decode_audio(path, "mean")
        np.testing.assert_allclose(published, (gain - 1) / 2 * sound, atol=1e-4)
        assert "published features" in told(caplog)[0]
    for kept in (np.stack([sound, 0 * sound], 1), tone(1.0, 44100, 2), tone(1.0, 44100, 6)[:, [0] * 5 + [3]]):
        write_wav(tmp_path / "plain.wav", kept, 44100)
        np.testing.assert_allclose(decode_audio(tmp_path / "plain.wav")[0], kept.mean(axis=1), atol=1e-4)
    write_wav(tmp_path / "silent.wav", np.zeros((44100, 2)), 44100)
    assert not decode_audio(tmp_path / "silent.wav")[0].any()
    assert not told(caplog)


@pytest.mark.parametrize(("subtype", "value"), [("FLOAT", np.nan), ("FLOAT", -np.inf), ("DOUBLE", 1e300)])
def test_samples_that_are_no_numbers(tmp_path, caplog, subtype, value):
    sound, path = tone(1.0, 44100, 2), tmp_path / "song.wav"
    sound[22050, 0] = value
    soundfile.write(path, sound, 44100, subtype=subtype)
    samples, _ = decode_audio(path)
    sound[22050, 0] = 0
    np.testing.assert_allclose(samples, sound.mean(axis=1), atol=1e-6)
    (text,) = told(caplog)
    assert re.search(
        r"song\.wav: 1 of 88200 samples are NaN or infinite \(the first is \S+ at 0\.\d+ s\)", text
    )
    assert np.isfinite(read_song(path, 1.0)).all()
    assert song_bytes(path, 1.0)
    sound[:20_000] = value
    soundfile.write(path, sound, 44100, subtype=subtype)
    with pytest.raises(
        ValueError, match=r"40000 of 88200 samples are NaN or infinite.*export the song again"
    ):
        resample(*decode_audio(path), 3840)


def test_many_channels(tmp_path):
    sound = tone(0.5, 44100, 10)
    soundfile.write(tmp_path / "song.wav", sound, 44100)
    np.testing.assert_allclose(decode_audio(tmp_path / "song.wav")[0], sound.mean(axis=1), atol=1e-4)
    assert sum(block.shape[1] for block in stereo_blocks(tmp_path / "song.wav", 44100)) == len(sound)


def _bad(path, kind):
    if kind == "0 bytes":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no sound\n" * 50)
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "picture only":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 32
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    elif kind == "zero length":
        soundfile.write(path, np.zeros((0, 1)), 44100)
    elif kind == "header only":
        write_wav(path, tone()[:, 0], 44100)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "torn flac":
        encode(path.with_suffix(".flac"), "flac")
        content = bytearray(path.with_suffix(".flac").read_bytes())
        content[9000:] = np.random.default_rng(1).bytes(len(content) - 9000)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("0 bytes", "empty"),
        ("text", "no sound file"),
        ("random", "no sound|damaged"),
        ("picture only", "no sound track"),
        ("zero length", "zero length"),
        ("header only", "no sound file|zero length|damaged|no sound track"),
        ("torn flac", "damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, message):
    path = _bad(tmp_path / "song.wav", kind)
    with pytest.raises(ValueError, match=rf"song\.wav.*({message}).*(;|expected)"):
        resample(*decode_audio(path), 3840)


def test_truncated_wav(tmp_path):
    path = tmp_path / "song.wav"
    write_wav(path, tone(2)[:, 0], 44100)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"song\.wav.*cut off.* 1\.13 s .* 2\.00 s"):
        resample(*decode_audio(path), 3840)


def test_truncated_flac_and_mp4(tmp_path):
    for name, codec in (("song.flac", "flac"), ("song.m4a", "aac")):
        path = tmp_path / name
        encode(path, codec, seconds=4.0)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=rf"{name}.*(cut off|damaged|no sound file).*(again|expected)"):
            resample(*decode_audio(path), 3840)


def test_streamed_wav_is_read_whole(tmp_path):
    path = tmp_path / "song.wav"
    write_wav(path, tone(0.5)[:, 0], 44100)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # as ffmpeg leaves it when writing into a pipe
    path.write_bytes(content)
    assert len(resample(*decode_audio(path), 44100)) == 22050
