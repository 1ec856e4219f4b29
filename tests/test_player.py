import html
import json
import re

import av
import numpy as np
import pytest

from datasets.smpl import rest_joints
from tests.browser import chromium, opened, pixels, settle, wait_until
from utils.audio import write_wav
from utils.metrics.beats import motion_beats
from utils.render import player
from utils.render.figure import UPPER, Palette, limb_colours
from utils.render.player import PlayerDance, read_player_dance, write_player
from utils.render.player_data import hex_colour, pack, speed_curve, unpack
from utils.render.player_page import fill, format_fact, safe_json
from utils.render.player_song import song_bytes
from utils.skeleton import SMPL_24

SECONDS = 4
HOSTILE = "</script><script>window.hurt=1</script><img src=x onerror='window.hurt=1'>&amp;{{data}}\u2028 \"'"


def dance(frames=60 * SECONDS, speed=3.0):
    """The rest pose, swaying, travelling and bobbing."""
    rest = rest_joints()
    rest = rest - [0, rest[:, 1].min() - 0.02, 0]
    time = np.arange(frames) / 60
    travel = np.stack([0.5 * np.sin(speed * time), 0.05 * np.sin(9 * time) ** 2, 0.3 * time], 1)
    return (rest + travel[:, None]).astype(np.float32)


def codes(frames=60 * SECONDS, shift=0):
    number = np.arange(-(-frames // 8))
    return np.stack([number // 2 + shift, number + 100 + shift], 1)


def song(path, seconds=SECONDS, rate=22050, click=None):
    """A tone, or silence with a click at a time."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 440 * time)
    if click is not None:
        samples = np.where(np.abs(time - click) < 0.002, 0.9, 0.0)
    write_wav(path, samples, rate)
    return path


def embedded(path):
    """The data of a page."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S
    )
    return json.loads(found[1])


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
    one = PlayerDance("a", dance(), codes(), np.array([30, 60, 9999]), np.array([15]), {"BAS": 0.25})
    write_player(tmp_path / "new" / "page.html", [one], None, "t")
    data = embedded(tmp_path / "new" / "page.html")
    shown = data["dances"][0]
    assert (data["seconds"], data["song"], shown["codeSeconds"]) == (SECONDS, None, 8 / 60)
    assert (shown["upper"], shown["lower"]) == tuple(codes().T.tolist())
    assert (shown["musicBeats"], shown["motionBeats"]) == ([0.5, 1.0], [0.25])
    assert shown["facts"] == [["BAS", "0.250"]]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["page.html"]


def test_three_minutes_of_four_dances_and_a_song_stay_below_twelve_megabytes(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (10 * 44100, 2))
    write_wav(tmp_path / "s.wav", noise, 44100)
    dances = [PlayerDance(str(number), dance(600), codes(600)) for number in range(4)]
    sizes = []
    for cut in (120, 600):
        short = [PlayerDance(one.name, one.joints[:cut], one.codes) for one in dances]
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
    good = PlayerDance("good", dance())
    (tmp_path / "no.wav").write_text("this is no sound")
    for dances, music, why in (
        ([PlayerDance("bad", broken)], None, r"bad: 1 of 240 frames hold NaN or infinity, first 7"),
        ([PlayerDance("bad", dance()[:, :20])], None, r"bad: expected \(T, 24, 3\)"),
        ([PlayerDance("bad", dance(), fps=0)], None, "bad: fps 0 .* must be positive"),
        ([PlayerDance("bad", dance(), codes()[:, :1])], None, r"expected \(T', 2\) integers"),
        ([], None, "1 to 4 dances, got 0"),
        ([good] * 5, None, "1 to 4 dances, got 5"),
        ([good], tmp_path / "no.wav", r"no\.wav is no song that can be read"),
    ):
        with pytest.raises(ValueError, match=why):
            write_player(tmp_path / "p.html", dances, music)
    with pytest.raises(FileNotFoundError, match=r"there is no song .*gone\.mp3"):
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
    assert read_player_dance(first).facts == {"song": "mBR4"}


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
        ([str(odd), "--out", out], "odd.npz: codes: expected (T', 2) integers"),
        ([str(tmp_path / "other.npz"), "--out", out], "other.npz: it holds values"),
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


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A silent page of one dance, and one of two with a song."""
    folder = tmp_path_factory.mktemp("pages")
    beats = np.arange(0, 60 * SECONDS, 30)
    one = PlayerDance("first", dance(), codes(), beats, facts={"BAS": 0.5})
    other = PlayerDance("second", dance(180, speed=5.0), codes(180, 7), beats)
    write_player(folder / "one.html", [one], None, "One")
    write_player(folder / "two.html", [one, other], song(folder / "s.wav", click=1.5), "Two")
    return folder


# of a left and a right limb of each half: the halves' colours, lighter and darker
COLOURS = limb_colours(SMPL_24, Palette())
HALVES = {
    half: [COLOURS[SMPL_24.index(f"{side}_{joint}") - 1] for side in ("left", "right")]
    for half, joint in (("upper", "elbow"), ("lower", "knee"))
}


def near(picture, colour):
    return (np.abs(picture / 255 - np.asarray(colour)) < 0.03).all(-1).sum()


def seek(page, seconds):
    page.locator("#seek").fill(str(seconds))
    settle(page)


def now(page):
    return float(page.locator("#seek").input_value())


def test_the_page_draws_both_halves_and_the_timeline(browser, pages):
    with opened(browser, pages / "one.html") as page:
        settle(page)
        picture = pixels(page)
        for colours in HALVES.values():
            assert all(near(picture, colour) > 100 for colour in colours)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
        assert np.ptp(pixels(page, 0, "#timeline")) > 100
        assert np.ptp(pixels(page, 0, "#overview")) > 50
        assert page.locator(".chip.upper b").inner_text() == "0"
        assert page.locator("h1").inner_text() == "One"
        assert page.locator("dl").inner_text().split() == ["BAS", "0.500"]
        assert page.locator("#tied").is_hidden()
        assert page.evaluate("page.upper") == hex_colour(UPPER)


def test_a_dancer_that_rests_has_no_code(browser, tmp_path):
    resting = codes()
    resting[:8] = -1
    write_player(tmp_path / "rest.html", [PlayerDance("a", dance(), resting, np.zeros(0, int))])
    with opened(browser, tmp_path / "rest.html") as page:
        settle(page)
        chip = page.locator(".chip.upper b")
        assert chip.inner_text() == "–"
        seek(page, 8 * 8 / 60)
        assert chip.inner_text() == "4"


def test_the_pages_arithmetic_is_that_of_the_package(browser, pages):
    with opened(browser, pages / "one.html") as page:
        joints = np.array(page.evaluate("[0.5, 1.0, 9].map((time) => [...dances[0].joints(time)])"))
        assert np.abs(joints.reshape(3, 24, 3) - dance()[[30, 60, -1]]).max() < 1e-4
        between = np.array(page.evaluate("[...dances[0].joints(30.5 / 60)]")).reshape(24, 3)
        assert np.abs(between - dance()[30:32].mean(0)).max() < 1e-4
        shown = [page.evaluate(f"dances[0].code('lower', {time})") for time in (0, 8.1 / 60, SECONDS, 99)]
        assert shown == [100, 101, codes()[-1, 1], codes()[-1, 1]]


def test_it_plays_pauses_and_ends(browser, pages):
    with opened(browser, pages / "one.html") as page:
        settle(page)
        before = pixels(page)
        page.get_by_role("button", name="Play", exact=True).click()
        wait_until(page, "Number(document.getElementById('seek').value) > 0.4")
        page.get_by_role("button", name="Pause", exact=True).click()
        settle(page)
        stopped = now(page)
        assert (pixels(page) != before).any(-1).sum() > 500
        page.wait_for_timeout(150)
        assert now(page) == stopped
        page.get_by_role("button", name="Loop").click()
        seek(page, SECONDS - 0.2)
        page.keyboard.press(" ")
        settle(page)
        assert page.locator("#play").get_attribute("aria-pressed") == "true"
        wait_until(page, "document.getElementById('play').getAttribute('aria-pressed') === 'false'")
        assert now(page) == SECONDS
        page.get_by_role("button", name="Loop").click()
        page.keyboard.press("k")  # from the end it begins again
        wait_until(page, "Number(document.getElementById('seek').value) < 2")


def test_the_song_is_the_clock_and_the_speed_changes_it(browser, pages):
    with opened(browser, pages / "two.html") as page:
        page.keyboard.press(" ")
        wait_until(page, "clock.sound.currentTime > 0.5")
        assert abs(page.evaluate("clock.time - clock.sound.currentTime")) < 0.15
        seek(page, 1.0)
        wait_until(page, "clock.heard && clock.sound.currentTime > 1.1")
        assert abs(page.evaluate("clock.time - clock.sound.currentTime")) < 0.15
        page.get_by_label("Speed", exact=True).select_option("0.25")
        assert page.evaluate("clock.sound.playbackRate") == 0.25
        start, real = page.evaluate("[clock.time, performance.now()]")
        page.wait_for_timeout(800)
        end, later = page.evaluate("[clock.time, performance.now()]")
        assert (end - start) / ((later - real) / 1000) == pytest.approx(0.25, abs=0.12)
        page.keyboard.press("m")
        assert page.evaluate("clock.sound.muted")
        seek(page, SECONDS - 0.1)
        wait_until(page, "clock.time < 1 && clock.playing && clock.heard")  # round again, with sound
        assert page.locator("#note").is_hidden()


def test_the_sound_is_where_it_was_in_the_song(browser, pages):
    with opened(browser, pages / "two.html") as page:
        peak = page.evaluate("""async () => {
            const context = new OfflineAudioContext(1, 1, 44100);
            const sound = await context.decodeAudioData(bytesOf(page.song).buffer);
            const samples = sound.getChannelData(0).map(Math.abs);
            const loud = samples.reduce((a, b) => Math.max(a, b));
            return samples.findIndex((value) => value > 0.5 * loud) / sound.sampleRate;
        }""")
        assert peak == pytest.approx(1.5, abs=0.01)


def test_a_page_without_sound_that_plays_goes_on_with_a_timer(browser, tmp_path):
    write_player(tmp_path / "p.html", [PlayerDance("a", dance())], song(tmp_path / "s.wav"))
    text = (tmp_path / "p.html").read_text("utf-8")
    (tmp_path / "p.html").write_text(re.sub(r'"song":"[^"]*"', '"song":"AAAA"', text), "utf-8")
    with opened(browser, tmp_path / "p.html") as page:
        wait_until(page, "!document.getElementById('note').hidden")
        assert "cannot play the song" in page.locator("#note").inner_text()
        page.keyboard.press(" ")
        wait_until(page, "Number(document.getElementById('seek').value) > 0.2")


def test_seeking_by_bar_and_timeline_shows_the_moment(browser, pages):
    with opened(browser, pages / "one.html") as page:
        seek(page, 2.0)
        assert page.locator(".chip.lower b").inner_text() == "115"
        first = pixels(page)
        box = page.locator("#timeline").bounding_box()
        page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + box["height"] - 8)
        settle(page)
        assert re.fullmatch(r"lower \d+ · 0:0\d\.\d\d", page.locator("#tip").inner_text())
        page.mouse.down()
        page.mouse.up()
        settle(page)
        x = 0.75 * box["width"]
        assert now(page) == pytest.approx((x - 52) / (box["width"] - 52) * SECONDS, abs=0.05)
        assert (pixels(page) != first).any()


def test_the_keys(browser, pages):
    with opened(browser, pages / "one.html") as page:
        seek(page, 2.0)
        page.keyboard.press("ArrowRight")
        settle(page)
        assert now(page) == pytest.approx(3.0, abs=0.02)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press(",")
        settle(page)
        assert now(page) == pytest.approx(2.0 - 1 / 60, abs=0.02)
        page.keyboard.press("Home")
        settle(page)
        assert now(page) == 0
        page.keyboard.press("End")
        settle(page)
        assert now(page) == SECONDS
        page.keyboard.press("ArrowUp")
        assert page.get_by_label("Speed", exact=True).input_value() == "1.25"
        for key, name in (("l", "loop"), ("f", "follow")):
            page.keyboard.press(key)
            assert page.locator(f"#{name}").get_attribute("aria-pressed") == "false"
        page.locator("#play").focus()
        page.keyboard.press(" ")  # presses the button once, not twice
        settle(page)
        assert page.locator("#play").get_attribute("aria-pressed") == "true"


def test_the_camera_turns_zooms_moves_and_comes_back(browser, pages):
    with opened(browser, pages / "one.html") as page:
        settle(page)
        first = pixels(page)
        box = page.locator(".stage canvas").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 90, y + 40, steps=3)
        page.mouse.up()
        page.mouse.wheel(0, -300)
        settle(page)
        view = page.evaluate("stages[0].view")
        assert view["yaw"] == pytest.approx(0.3 - 0.72)
        assert view["pitch"] == pytest.approx(0.2 + 0.24)
        assert view["zoom"] > 1.3
        assert (pixels(page) != first).any(-1).mean() > 0.1
        assert not page.evaluate("clock.playing")  # a drag is no click
        page.keyboard.down("Shift")
        page.mouse.down()
        page.mouse.move(x, y, steps=2)
        page.mouse.up()
        page.keyboard.up("Shift")
        assert np.linalg.norm(page.evaluate("stages[0].view.move")) > 0.1
        page.keyboard.press("r")
        settle(page)
        far = np.abs(pixels(page) - first).max(-1) > 24  # the edges' smoothing may change by a shade
        assert far.mean() < 1e-3


def test_fingers_turn_and_zoom(browser, pages):
    with opened(browser, pages / "two.html", 390, 844, has_touch=True) as page:
        settle(page)
        box = page.locator(".stage canvas").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        device = page.context.new_cdp_session(page)

        def fingers(kind, *places):
            points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
            device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        fingers("touchStart", (x, y))
        fingers("touchMove", (x + 50, y))
        fingers("touchEnd")
        assert page.evaluate("stages[0].view.yaw") < 0.1
        fingers("touchStart", (x - 20, y), (x + 20, y))
        fingers("touchMove", (x - 40, y), (x + 40, y))
        fingers("touchEnd")
        assert page.evaluate("stages[0].view.zoom") > 1.5
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_two_dances_share_a_clock_and_if_wanted_a_camera(browser, pages):
    with opened(browser, pages / "two.html") as page:
        seek(page, 1.0)
        pictures = [pixels(page, which) for which in (0, 1)]
        for picture in pictures:
            for colours in HALVES.values():
                assert all(near(picture, colour) > 50 for colour in colours)
        assert (pictures[0] != pictures[1]).any(-1).sum() > 300
        assert page.locator("h2").all_inner_texts() == ["first", "second"]
        assert page.locator(".chip.lower b").all_inner_texts() == ["107", "114"]
        assert page.evaluate("stages[0].view === stages[1].view")
        page.get_by_role("button", name="One camera").click()
        page.evaluate("() => { turnBy(stages[1].view, 1, 0); touch(); }")
        settle(page)
        changed = [(np.abs(pixels(page, which) - pictures[which]).max(-1) > 24).sum() for which in (0, 1)]
        assert changed[0] < 100
        assert changed[1] > 2000
        assert page.locator(".over").nth(1).is_hidden()
        seek(page, 3.5)  # the second has ended
        assert page.locator(".over").nth(1).is_visible()


def test_dark_and_light(browser, pages):
    brightness = []
    for scheme in ("dark", "light"):
        with opened(browser, pages / "one.html", color_scheme=scheme) as page:
            settle(page)
            brightness.append(pixels(page)[:20].mean())
            assert near(pixels(page), HALVES["upper"][0]) > 100
    assert brightness[0] < 60
    assert brightness[1] > 200


def test_hostile_names_stay_text(browser, tmp_path):
    one = PlayerDance(HOSTILE, dance(30), codes(30), facts={HOSTILE: HOSTILE})
    write_player(tmp_path / "p.html", [one, one], None, HOSTILE)
    with opened(browser, tmp_path / "p.html") as page:
        settle(page)
        assert page.evaluate("window.hurt") is None
        assert page.title().split() == HOSTILE.split()
        for place in ("h1", "h2", "dd"):
            assert page.locator(place).first.text_content() == HOSTILE
        assert page.locator("img").count() == 0


def test_the_policy_stops_scripts_that_are_not_the_pages_own(browser, tmp_path):
    write_player(tmp_path / "p.html", [PlayerDance("a", dance(30))])
    text = (tmp_path / "p.html").read_text("utf-8")
    (tmp_path / "p.html").write_text(
        text.replace("</body>", "<script>window.hurt=1</script></body>"), "utf-8"
    )
    with pytest.raises(pytest.fail.Exception, match="Content Security Policy"):  # noqa: PT012
        with opened(browser, tmp_path / "p.html") as page:
            settle(page)
            assert page.evaluate("window.hurt") is None
