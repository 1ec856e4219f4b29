import base64
import html
import json

import av
import numpy as np
import pytest

from tests.utils.render.player.dances import HOSTILE, SECONDS, codes, dance, embedded, song
from utils.dance import Dance
from utils.metrics.beats import motion_beats
from utils.music.audio import write_wav
from utils.render import player
from utils.render.player import write_player
from utils.render.player_data import pack, speed_curve
from utils.render.player_page import fill, format_fact, safe_json
from utils.render.player_song import song_bytes


def unpack(packed):
    """Joints (T, J, 3) in metres, as the page's script unpacks them."""
    root = np.frombuffer(base64.b64decode(packed.root), "<f4").reshape(-1, 3).astype(np.float64)
    pose = np.frombuffer(base64.b64decode(packed.pose), "<i2").reshape(len(root), -1, 3)
    return np.concatenate([root[:, None], root[:, None] + pose * packed.scale], 1)


@pytest.mark.parametrize("travel", [0.0, 200.0])
def test_joints_come_back_to_less_than_half_a_millimetre(travel):
    joints = dance() + np.linspace(0, travel, 60 * SECONDS)[:, None, None] * np.array([1, 0, 0])
    packed = pack(joints)
    assert np.abs(unpack(packed) - joints).max() < 5e-4
    assert len(packed.root + packed.pose) < 60 * SECONDS * (12 + 23 * 6) * 4 / 3 + 8


def test_joints_all_in_one_place_are_packed():
    assert np.array_equal(unpack(pack(np.ones((2, 24, 3)))), np.ones((2, 24, 3)))


def test_the_curve_of_the_speed_is_that_of_the_motion_beats():
    joints = np.zeros((300, 24, 3))
    joints[..., 0] = (np.cumsum(1.0 + 0.5 * np.cos(2 * np.pi * np.arange(300) / 60)) / 60)[:, None]
    curve = speed_curve(joints, 60)
    assert curve["speed"][75] == pytest.approx(
        100 * (1 - 0.5 * np.exp(-((2 * np.pi * 5 / 60) ** 2) / 2)), abs=3
    )
    low = np.array(curve["speed"])[20:-20].argmin() + 20
    assert np.abs(motion_beats(joints) / 60 - low / curve["speedHz"]).min() < 0.05


def test_no_text_can_end_the_data_or_the_title():
    assert json.loads(safe_json({"name": HOSTILE})) == {"name": HOSTILE}
    assert not set("<>&\u2028") & set(safe_json(HOSTILE))
    page = fill("player.html", (), (), HOSTILE, {"name": HOSTILE}, "img-src data:").decode()
    assert page.count("</script>") == 2
    assert f"<title>{html.escape(HOSTILE)}</title>" in page  # its {{data}} is still text
    with pytest.raises(ValueError, match="not JSON compliant"):
        safe_json({"value": float("nan")})
    assert b"?" in fill("player.html", (), (), "\udce4", {}, "img-src data:")  # a byte of a broken file name


def test_facts_are_written_for_people():
    facts = (0.93657, 25.2197, 4.78e-7, float("nan"), None, 12, -0.5, "mBR4")
    assert [format_fact(value) for value in facts] == [
        "0.937", "25.22", "4.78e-07", "–", "–", "12", "−0.500", "mBR4",
    ]  # fmt: skip


def test_the_page_holds_the_dance_its_codes_and_beats_in_seconds(tmp_path):
    one = Dance("a", dance(), np.array([30, 60, 9999]), codes=codes())
    write_player(tmp_path / "new" / "page.html", [one], None, "t", [{"BAS": 0.25}])
    data = embedded(tmp_path / "new" / "page.html")
    shown = data["dances"][0]
    assert (data["seconds"], data["song"], shown["codeSeconds"]) == (SECONDS, None, 8 / 60)
    assert (shown["upper"], shown["lower"]) == tuple(codes().T.tolist())
    assert shown["musicBeats"] == [0.5, 1.0]
    np.testing.assert_allclose(shown["motionBeats"], motion_beats(dance()) / 60, atol=1e-3)
    assert shown["facts"] == [["BAS", "0.250"]]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]


def test_three_minutes_of_four_dances_and_a_song_stay_below_twelve_megabytes(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (10 * 44100, 2))
    write_wav(tmp_path / "s.wav", noise, 44100)
    dances = [Dance(str(number), dance(600), codes=codes(600)) for number in range(4)]
    sizes = []
    for cut in (120, 600):
        short = [Dance(one.name, one.joints[:cut], codes=one.codes) for one in dances]
        write_player(tmp_path / "p.html", short, tmp_path / "s.wav")
        sizes.append((tmp_path / "p.html").stat().st_size)
    assert sizes[0] + (sizes[1] - sizes[0]) / 8 * 178 < 12e6


def test_the_song_is_cut_to_the_dance_and_a_shorter_one_stays_short(tmp_path):
    for seconds, wanted in ((6.0, 2.0), (1.0, 1.0)):
        (tmp_path / "s.m4a").write_bytes(song_bytes(song(tmp_path / "s.wav", seconds), 2.0))
        with av.open(str(tmp_path / "s.m4a")) as container:
            assert container.streams.audio[0].codec_context.name == "aac"
            assert container.duration / 1e6 == pytest.approx(wanted, abs=0.06)


def test_what_is_wrong_is_said(tmp_path):
    broken = dance()
    broken[7, 3, 1] = np.nan
    good = Dance("good", dance())
    (tmp_path / "no.wav").write_text("this is no sound")
    for dances, music, why in (
        (
            [Dance("bad", broken)],
            None,
            r"'bad': joints must be finite, got nan in frame 7.*\(1 of 240",
        ),
        ([Dance("bad", dance()[:, :20])], None, r"'bad': joints must be \(T, 24, 3\)"),
        ([Dance("bad", dance(), fps=0)], None, "'bad': fps 0 .* must be positive"),
        ([Dance("bad", dance(), codes=codes()[:, :1])], None, r"codes must be \(T', 2\) integers"),
        ([], None, "1 to 4 dances, got 0"),
        ([good] * 5, None, "1 to 4 dances, got 5"),
        ([good], tmp_path / "no.wav", r"no\.wav is no sound file that can be read"),
    ):
        with pytest.raises(ValueError, match=why):
            write_player(tmp_path / "p.html", dances, music)
    with pytest.raises(FileNotFoundError, match=r"there is no sound file .*gone\.mp3"):
        write_player(tmp_path / "p.html", [good], tmp_path / "gone.mp3")
    assert not list(tmp_path.glob("*p.html*"))


def written(folder, name="one", **more):
    folder.mkdir(exist_ok=True)
    content = {"joints": dance(), "codes": codes(), "fps": 60, "song": "mBR4"} | more
    np.savez(folder / f"{name}.npz", **content)
    return folder / f"{name}.npz"


def test_the_command_reads_what_the_evaluation_writes(tmp_path, capsys):
    first, second = written(tmp_path / "GPT"), written(tmp_path / "actor-critic", codes=np.zeros((0, 2), int))
    assert player.main([str(first), str(second), "--out", str(tmp_path / "p.html")]) == 0
    assert "shows GPT, actor-critic" in capsys.readouterr().out
    data = embedded(tmp_path / "p.html")
    assert (data["title"], [one["name"] for one in data["dances"]]) == ("one", ["GPT", "actor-critic"])
    assert data["dances"][0]["upper"] == codes()[:, 0].tolist()
    assert data["dances"][1]["upper"] == []
    assert [one["facts"] for one in data["dances"]] == [[["song", "mBR4"]]] * 2


def test_the_command_shows_the_tempo(tmp_path):
    """That of the file's provenance, else that of its beats: every 30 frames of 60 per second."""
    beats = np.arange(0, 150, 30)
    plain = written(tmp_path / "a", music_beats=beats)
    told = written(tmp_path / "b", music_beats=beats, provenance=np.asarray('{"tempo": "160 BPM"}'))
    assert player.main([str(plain), str(told), "--out", str(tmp_path / "p.html")]) == 0
    shown = [dict(one["facts"])["tempo"] for one in embedded(tmp_path / "p.html")["dances"]]
    assert shown == ["120 BPM", "160 BPM"]


def test_the_command_tracks_the_beats_of_the_song(tmp_path):
    rate = 22050
    time = np.arange(8 * rate) / rate
    write_wav(tmp_path / "s.wav", 0.8 * np.exp(-60 * (time % 0.5)) * np.sin(2 * np.pi * 880 * time), rate)
    path = written(tmp_path / "d", joints=dance(480))
    assert player.main([str(path), "--song", str(tmp_path / "s.wav"), "--out", str(tmp_path / "p.html")]) == 0
    beats = np.array(embedded(tmp_path / "p.html")["dances"][0]["musicBeats"])
    assert len(beats) > 8
    assert np.median(np.diff(beats)) == pytest.approx(0.5, abs=0.03)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    good, out = str(written(tmp_path / "d")), str(tmp_path / "p.html")
    nan = written(tmp_path / "d", "nan", joints=np.full((9, 24, 3), np.nan))
    odd = written(tmp_path / "d", "odd", codes=np.zeros((3, 5)))
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    for arguments, why in (
        ([str(tmp_path / "gone.npz"), "--out", out], "gone.npz; `main.py --eval` writes dances"),
        ([str(nan), "--out", out], "nan.npz: joints must be finite"),
        ([str(odd), "--out", out], "odd.npz: codes must be (T', 2) integers"),
        ([str(tmp_path / "other.npz"), "--out", out], "other.npz is no dance: it holds values"),
        ([str(tmp_path / "text.npz"), "--out", out], "text.npz: "),
        ([good, "--out", str(tmp_path / "p.txt")], "should end in .html"),
        ([good, "--names", "a", "b", "--out", out], "--names gives 2 names to 1 dances"),
        ([good, "--song", str(tmp_path / "gone.wav"), "--out", out], "there is no song"),
    ):
        assert player.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert why in error
        assert error.count("\n") == 1


# What a browser makes of it
