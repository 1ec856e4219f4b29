import logging
import wave
from dataclasses import replace

import av
import numpy as np
import pytest

from tests.swaying import FRAMES, dance, near
from utils.dance import Dance
from utils.render.figure import LOWER, UPPER, Palette, limb_colours
from utils.render.video import beat_strengths, render_video
from utils.skeleton import SMPL_24

HEIGHT = 180


def song(path, seconds, rate=22050):
    samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def pictures(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sound(path):
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], 1), rate


def test_the_video_has_the_size_length_codecs_and_order_that_browsers_play(tmp_path):
    render_video(
        tmp_path / "new" / "a.mp4", Dance("a", dance()), audio=song(tmp_path / "s.wav", 3), height=HEIGHT
    )
    path = tmp_path / "new" / "a.mp4"
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height, video.average_rate) == (320, HEIGHT, 60)
        assert audio.codec_context.name == "aac"
        assert float(video.duration * video.time_base) == pytest.approx(FRAMES / 60, abs=1e-3)
        assert float(audio.duration * audio.time_base) == pytest.approx(FRAMES / 60, abs=0.1)
    assert len(pictures(path)) == FRAMES
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_the_sound_is_the_song_and_a_shorter_song_stays_short(tmp_path):
    for seconds in (3.0, 0.4):
        render_video(
            tmp_path / "a.mp4", Dance("a", dance()), audio=song(tmp_path / "s.wav", seconds), height=64
        )
        samples, rate = sound(tmp_path / "a.mp4")
        assert samples.shape[1] / rate == pytest.approx(min(seconds, FRAMES / 60), abs=0.1)
        middle = samples[0, rate // 10 : rate // 10 + rate // 5]
        peak = np.abs(np.fft.rfft(middle)).argmax() * rate / len(middle)
        assert peak == pytest.approx(440, abs=10)


def test_a_missing_song_gives_a_silent_video_and_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        render_video(tmp_path / "a.mp4", Dance("a", dance(5)), audio=tmp_path / "nowhere.wav", height=64)
    assert len(caplog.records) == 1
    assert "nowhere.wav" in caplog.text
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert not container.streams.audio


def test_a_broken_song_is_named_and_no_video_is_left(tmp_path):
    (tmp_path / "bad.wav").write_text("this is no sound")
    with pytest.raises(ValueError, match=r"bad\.wav"):
        render_video(tmp_path / "a.mp4", Dance("a", dance(5)), audio=tmp_path / "bad.wav", height=64)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.wav"]


def test_halves_and_sides_have_their_colours_in_their_places(tmp_path):
    render_video(tmp_path / "a.mp4", Dance("a", dance(3)), height=360)
    picture = pictures(tmp_path / "a.mp4")[0]
    colours = dict(
        zip(
            [SMPL_24.joints[child] for _, child in SMPL_24.bones],
            limb_colours(SMPL_24, Palette()),
            strict=False,
        )
    )
    rows, columns = {}, {}
    for name in ("left_elbow", "right_elbow", "left_knee", "right_knee"):
        y, x = np.nonzero(near(picture, colours[name]))
        assert len(y) > 30, name
        rows[name], columns[name] = y.mean(), x.mean()
    for side in ("left", "right"):
        assert rows[f"{side}_elbow"] < rows[f"{side}_knee"]
    for joint in ("elbow", "knee"):
        assert columns[f"right_{joint}"] < columns[f"left_{joint}"]  # the dancer faces us


def test_the_codes_of_the_moment_are_shown(tmp_path):
    codes = np.array([[1, 2], [1, 345]])
    render_video(tmp_path / "a.mp4", Dance("a", dance(24), codes=codes), height=270)
    shown = pictures(tmp_path / "a.mp4").astype(int)
    chips = shown[:, 270 - 33 : 270 - 18, 13:122]
    upper, lower = chips[:, 3:-3, 4:48], chips[:, 3:-3, 61:-4]
    change = np.abs(lower[9:24].mean(0) - lower[:7].mean(0)).max()
    assert change > 60
    assert np.abs(upper[9:24].mean(0) - upper[:7].mean(0)).max() < 20
    assert np.abs(lower[23] - lower[9]).max() < 30  # the last code stays
    assert near(chips[0], np.asarray(UPPER) * 0.88 + 0.12).sum() > 100
    assert near(chips[0], np.asarray(LOWER) * 0.88 + 0.12).sum() > 100


def test_a_beat_flashes_and_fades(tmp_path):
    flags = np.zeros(200, bool)  # longer than the dance
    flags[[20, 150]] = True
    still = np.repeat(dance(1), 45, 0)
    render_video(tmp_path / "a.mp4", Dance("a", still, flags), height=HEIGHT)
    render_video(tmp_path / "b.mp4", Dance("a", still), height=HEIGHT)
    floor = slice(130, 172)
    gold = [
        (picture[floor, :, 0].astype(int) - picture[floor, :, 2] > 40).sum()
        for picture in pictures(tmp_path / "a.mp4")
    ]
    assert max(gold[:20]) == 0
    assert gold[20] > 100
    assert gold[44] < gold[20] / 2
    plain = pictures(tmp_path / "b.mp4")[:, floor]
    assert (plain[..., 0].astype(int) - plain[..., 2] > 40).sum() == 0


def test_beats_fade():
    strengths = beat_strengths(np.array([3, 12]), 20, 60)
    assert strengths[:3].tolist() == [0, 0, 0]
    assert strengths[[3, 12]].tolist() == [1, 1]
    assert (np.diff(strengths[3:12]) < 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": np.zeros((5, 22, 3))}, r"\(T, 24, 3\).*\(5, 22, 3\)"),
        ({"joints": np.zeros((0, 24, 3))}, "at least 1 frames"),
        ({"joints": np.full((5, 24, 3), np.nan)}, "must be finite, got nan in frame 0.*5 of 5 frames"),
        ({"codes": np.zeros((5, 3), int)}, "codes"),
        ({"codes": np.zeros((5, 2))}, "codes.*float64"),
        ({"music_beats": np.zeros((5, 2), bool)}, "beats must be frame indices or a flag"),
        ({"music_beats": np.full(5, 0.5)}, "beat indices must be whole numbers"),
        ({"frames_per_code": 0}, "frames_per_code 0"),
        ({"fps": 0}, "fps 0"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    one = replace(Dance("one", dance(5)), **change)
    with pytest.raises(ValueError, match=f"dance 'one': .*{message}"):
        render_video(tmp_path / "a.mp4", one)
    with pytest.raises(ValueError, match="height 10 must be at least 64"):
        render_video(tmp_path / "a.mp4", one, height=10)
    assert not list(tmp_path.iterdir())


def test_the_input_is_left_alone(tmp_path):
    joints, codes = dance(4), np.array([[1, 2]])
    before = joints.copy(), codes.copy()
    joints.setflags(write=False)
    render_video(tmp_path / "a.mp4", Dance("a", joints, codes=codes), height=64)
    assert np.array_equal(joints, before[0])
    assert np.array_equal(codes, before[1])
