"""Keys, mouse, fingers and the bar of the player, in a browser."""

import re

import numpy as np
import pytest

from tests.browser import opened, pixels, settle
from tests.utils.render.player.dances import SECONDS
from tests.utils.render.player.pages import now, seek


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
