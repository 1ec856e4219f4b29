"""The page on which every code of a memory moves, in a browser: both colour schemes, desktop and phone."""

import numpy as np
import pytest

from tests.browser import chromium, opened, pixels, settle, wait_until
from tests.swaying import dance
from utils.render.codes import CodeCard, CodeSection, RealClip, write_code_page
from utils.skeleton import SMPL_24

LONG = "gBR_sBM_cAll_d04_mBR0_ch01_" * 3


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    motion = dance(24)
    cards = [
        CodeCard(k, 100 - k, motion[:8] + 0.01 * k, {"break": 0.6, "a genre of a long name": 0.4}, clips)
        for k in range(30)
        for clips in [[RealClip(LONG, 1.0, 0.1, motion)]]
    ]
    path = tmp_path_factory.mktemp("codes") / "codes.html"
    title = "sample/a_memory_of_a_very_long_name: what its codes mean"
    write_code_page(path, title, [CodeSection(half, 32, 20.0, cards) for half in ("upper", "lower")], fps=60)
    return path


def brightness(page):
    """Of the page's background and text, 0..255."""
    found = page.evaluate("""() => {
        const style = getComputedStyle(document.body);
        const numbers = (text) => text.match(/\\d+/g).slice(0, 3).map(Number);
        return [style.backgroundColor, style.color].map(numbers);
    }""")
    return [np.mean(colour) for colour in found]


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_it_follows_the_colour_scheme(browser, page_path, size):
    for scheme in ("dark", "light"):
        with opened(browser, page_path, *size, color_scheme=scheme) as page:
            settle(page)
            paper, ink = brightness(page)
            assert (paper < 40, ink > 200) == (scheme == "dark",) * 2
            assert (paper > 220, ink < 60) == (scheme == "light",) * 2
            assert (pixels(page, 0, "#large").sum(-1) > 0).sum() > 1000  # the figure
            card = page.locator(".card").first
            colour = card.evaluate("(card) => getComputedStyle(card).backgroundColor")
            assert (np.mean([int(n) for n in colour[4:-1].split(",")]) > 200) == (scheme == "light")


def test_it_fits_a_phone(browser, page_path):
    with opened(browser, page_path, 390, 844, has_touch=True) as page:
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for selector in ("nav button", "select", ".shown", "#back", ".card"):
            for part in page.locator(selector).all():
                box = part.bounding_box()
                assert min(box["width"], box["height"]) >= 44, selector
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
        page.locator(".card").nth(20).tap()  # the large figure comes into view, and the codes come back
        name = page.locator("#name")
        wait_until(page, "document.querySelector('aside').getBoundingClientRect().top < 20")
        assert name.inner_text() == "upper 20"
        page.locator("#back").tap()
        place = "document.querySelectorAll('.card')[20].getBoundingClientRect()"
        wait_until(page, f"{place}.top >= 0 && {place}.bottom <= innerHeight")


def test_a_code_is_chosen_turned_and_shown_with_real_movement(browser, page_path):
    with opened(browser, page_path, 1280, 800) as page:
        settle(page)
        assert page.locator(".card").count() == 30
        page.locator(".card").nth(2).click()
        assert page.locator("#name").inner_text() == "upper 2"
        assert page.locator(".card[aria-pressed=true]").count() == 1
        assert page.locator("#back").is_hidden()
        page.locator("#large").focus()
        yaw = page.evaluate("state.yaw")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("state.yaw") > yaw
        page.locator(".shown").nth(1).click()
        assert page.locator(".shown").nth(1).get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="lower", exact=True).click()
        assert page.locator("#name").inner_text() == "lower 0"
        assert page.evaluate("state.section.colours.length") == len(SMPL_24.bones) + 1
