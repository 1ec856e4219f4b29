import re

import numpy as np
import pytest

from tests.browser import opened, pixels, settle, wait_until
from tests.utils.render.player.dances import HOSTILE, SECONDS, codes, dance, song
from tests.utils.render.player.pages import now, seek
from utils.dance import Dance
from utils.render.figure import UPPER, Palette, limb_colours
from utils.render.player import write_player
from utils.render.player_data import hex_colour
from utils.skeleton import SMPL_24

# of a left and a right limb of each half: the halves' colours, lighter and darker
COLOURS = limb_colours(SMPL_24, Palette())
HALVES = {
    half: [COLOURS[SMPL_24.index(f"{side}_{joint}") - 1] for side in ("left", "right")]
    for half, joint in (("upper", "elbow"), ("lower", "knee"))
}


# as many numbers as a dance of --dance has
MANY = {
    "seconds": 197.3, "tempo": "128 BPM, unsteady", "floor_drift_mm": 93.1, "music_beats": 402, "BAS": 0.4,
    "BAS_F1": 0.3, "foot_skate": 0.04, "jitter": 123.4, "freezing": 0.58, "bone_drift": 0.01,
    "fit_error_mm": 0.05,
    "fit_error_max_mm": 3.2, "worst_stretch_mm": 2.3, "max_turn_deg": 11.2, "skating_mm_s": "120→30",
}  # fmt: skip


def boxes(page, selector):
    return [part.bounding_box() for part in page.locator(selector).all()]


def near(picture, colour):
    return (np.abs(picture / 255 - np.asarray(colour)) < 0.03).all(-1).sum()


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
        assert page.locator("dl").inner_text().split() == ["beat", "alignment", "(BAS)", "↑", "0.500"]
        assert page.locator("#tied").is_hidden()
        assert page.evaluate("page.upper") == hex_colour(UPPER)


def test_a_dancer_that_rests_has_no_code(browser, tmp_path):
    resting = codes()
    resting[:8] = -1
    write_player(tmp_path / "rest.html", [Dance("a", dance(), np.zeros(0, int), codes=resting)])
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


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_page_fits_a_window_of_1280_by_800(browser, tmp_path, number):
    """With as many numbers as --dance gives; the stage takes what is left."""
    dances = [Dance(f"dance {i}", dance(), np.arange(0, 240, 30), codes=codes()) for i in range(number)]
    write_player(tmp_path / "p.html", dances, song(tmp_path / "s.wav"), "A title", [MANY] * number)
    for width, height in ((1280, 800), (1600, 900)):
        with opened(browser, tmp_path / "p.html", width, height) as page:
            settle(page)
            assert page.evaluate("document.documentElement.scrollHeight") <= height
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            bottom = max(box["y"] + box["height"] for box in boxes(page, ".stage, #player"))
            assert height - 60 < bottom <= height
            assert all(box["height"] >= 200 for box in boxes(page, ".stage"))
            assert (pixels(page) != pixels(page)[0, 0]).any()


def test_numbers_say_what_they_mean(browser, tmp_path):
    facts = {"freezing": 0.5821, "floor_drift_mm": 93.12, "own": 3}
    write_player(tmp_path / "p.html", [Dance("a", dance())], facts=[facts])
    with opened(browser, tmp_path / "p.html") as page:
        assert page.locator("dd").all_inner_texts() == ["58.2\u00a0%", "93.1\u00a0mm", "3"]
        assert page.locator("dt").last.inner_text() == "own"  # nobody has described it
        still = page.get_by_role("button", name="standing still")
        assert "Share of the time in which the whole body moves slower" in still.get_attribute("title")
        assert still.get_attribute("title").endswith("Lower is better.")
        note = page.locator(".meaning")
        assert note.is_hidden()
        still.focus()
        assert note.inner_text() == still.get_attribute("title")
        before = now(page)
        page.keyboard.press("ArrowRight")
        assert "has been removed from all files" in note.inner_text()
        assert now(page) == before  # the arrow is the list's, not the player's
        page.keyboard.press("Escape")
        assert note.is_hidden()


def test_a_page_without_sound_that_plays_goes_on_with_a_timer(browser, tmp_path):
    write_player(tmp_path / "p.html", [Dance("a", dance())], song(tmp_path / "s.wav"))
    text = (tmp_path / "p.html").read_text("utf-8")
    (tmp_path / "p.html").write_text(re.sub(r'"song":"[^"]*"', '"song":"AAAA"', text), "utf-8")
    with opened(browser, tmp_path / "p.html") as page:
        wait_until(page, "!document.getElementById('note').hidden")
        assert "cannot play the song" in page.locator("#note").inner_text()
        page.keyboard.press(" ")
        wait_until(page, "Number(document.getElementById('seek').value) > 0.2")


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
    one = Dance(HOSTILE, dance(30), codes=codes(30))
    write_player(tmp_path / "p.html", [one, one], None, HOSTILE, [{HOSTILE: HOSTILE}] * 2)
    with opened(browser, tmp_path / "p.html") as page:
        settle(page)
        assert page.evaluate("window.hurt") is None
        assert page.title().split() == HOSTILE.split()
        for place in ("h1", "h2", "dd"):
            assert page.locator(place).first.text_content() == HOSTILE
        assert page.locator("img").count() == 0


def test_the_policy_stops_scripts_that_are_not_the_pages_own(browser, tmp_path):
    write_player(tmp_path / "p.html", [Dance("a", dance(30))])
    text = (tmp_path / "p.html").read_text("utf-8")
    (tmp_path / "p.html").write_text(
        text.replace("</body>", "<script>window.hurt=1</script></body>"), "utf-8"
    )
    with pytest.raises(pytest.fail.Exception, match="Content Security Policy"):  # noqa: PT012
        with opened(browser, tmp_path / "p.html") as page:
            settle(page)
            assert page.evaluate("window.hurt") is None
