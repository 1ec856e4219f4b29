"""A browser, and pages in it."""

import numpy as np
import pytest

from tests.browser import chromium
from tests.utils.render.player.dances import SECONDS, codes, dance, song
from utils.dance import Dance
from utils.render.player import write_player


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A silent page of one dance, and one of two with a song."""
    folder = tmp_path_factory.mktemp("pages")
    beats = np.arange(0, 60 * SECONDS, 30)
    one = Dance("first", dance(), beats, codes=codes())
    other = Dance("second", dance(180, speed=5.0), beats, codes=codes(180, 7))
    write_player(folder / "one.html", [one], None, "One", [{"BAS": 0.5}])
    write_player(
        folder / "two.html", [one, other], song(folder / "s.wav", click=1.5), "Two", [{"BAS": 0.5}, {}]
    )
    return folder
