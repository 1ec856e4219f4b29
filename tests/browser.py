"""A headless Chromium for tests of web pages.

Without one they skip by name; with `REQUIRE_BROWSER` set, as in CI, they fail.
"""

import base64
import importlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    missing = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        missing(f"no Chromium is here (looked for {', '.join(_NAMES)})")
    try:
        api = importlib.import_module("playwright.sync_api")
    except ImportError:
        missing("playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 900, height: int = 700, **how: Any) -> Iterator[Any]:
    """A page opened from the disk; fails when it asks the network anything or complains."""
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type != "log" else None)
    try:
        page.goto(path.resolve().as_uri())
        yield page
        far = [url for url in asked if not url.startswith(("file:", "blob:", "data:"))]
        if far or complaints:
            pytest.fail(f"the page asked for {far} and complained {complaints}")
    finally:
        context.close()


def settle(page: Any) -> None:
    """Waits until the page has drawn what it was last asked for."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")


def wait_until(page: Any, expression: str, seconds: float = 20.0) -> None:
    """Waits until a JavaScript expression holds; by asking again, as the pages' policy forbids `eval`."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s there is still not: {expression}")
        page.wait_for_timeout(20)


def pixels(page: Any, which: int = 0, selector: str = ".stage canvas") -> np.ndarray:
    """What a canvas shows: (height, width, 3) in 0..255, transparent as black."""
    url = page.evaluate(
        "([selector, which]) => document.querySelectorAll(selector)[which].toDataURL('image/png')",
        [selector, which],
    )
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(url.split(",")[1])))
    return np.rint(255 * picture[..., :3]).astype(int)
