"""What tests do with an open page of the player."""

from tests.browser import settle


def seek(page, seconds):
    page.locator("#seek").fill(str(seconds))
    settle(page)


def now(page):
    return float(page.locator("#seek").input_value())
