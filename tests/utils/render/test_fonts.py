import logging
import warnings

import numpy as np
import pytest

from tests.utils.metrics.motions import smooth_dance
from utils.dance import Dance
from utils.metrics.plots import beat_plot, save_figure
from utils.render import fonts
from utils.render.canvas import Canvas, fitting
from utils.render.fonts import FAMILY, families_for, outline, plain_line
from utils.render.video import render_video

NAMES = [
    "Ba$$in",
    "100$_$50",
    "Ke$ha & A$AP",
    r"\frac{1}{2}^$x_y$ %s {title}",
    "\u97f3\u697d \u0645\u0648\u0633\u064a \u05e9\u05d9\u05e8 \u0939\u093f \U0001f3b5\u200d\U0001f468",
    "odd \udcff \x07 \ufffe byte",
    "two\nlines",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_title_of_plot_and_video_without_a_warning(tmp_path, name, caplog):
    dance = smooth_dance(seconds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = beat_plot(Dance("a", dance, np.array([10])), title=name)
        save_figure(figure, tmp_path / "plot.png")
        render_video(tmp_path / "video.mp4", Dance("a", dance[:3]), title=name, height=96)
    title = figure.axes[0].title
    assert title.get_text().startswith(plain_line(name))
    assert not title.get_parse_math()
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert (tmp_path / "video.mp4").stat().st_size > 500
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


def test_dollars_are_drawn():
    """Each is a glyph of its own: no formula takes them out, nor turns what is between italic."""
    plain = outline("Ke$ha & A$AP", 20, True)
    parts = outline("Ke", 20, True), outline("$", 20, True), outline("ha", 20, True)
    assert len(plain.vertices) > sum(len(part.vertices) for part in parts)
    for name in ("Ba$$in", "100$_$50", "a$b$c"):
        each = sum(len(outline(sign, 20, False).vertices) for sign in name)
        assert len(outline(name, 20, False).vertices) == each


def test_what_the_font_lacks_is_taken_from_another(monkeypatch):
    class Font:
        style = "normal"

        def __init__(self, name):
            self.name = self.fname = name

    held = {"Other": {0x97F3}, "Third": {0x97F3, 0x697D}, "Last Resort": set(range(0x110000))}
    own = fonts._characters
    monkeypatch.setattr(fonts, "_characters", lambda path: frozenset(held.get(path, own(path))))
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", [Font(name) for name in held])
    families_for.cache_clear()
    assert families_for("plain é Ω") == (FAMILY,)
    assert families_for("\u97f3") == (FAMILY, "Other")
    assert families_for("a\u97f3\u697d") == (FAMILY, "Other", "Third")
    assert families_for("\U0001f3b5") == (FAMILY,)  # nothing has it: a box
    families_for.cache_clear()


def test_long_titles_end_in_an_ellipsis_within_their_room():
    assert fitting("short", 17, 500) == "short"
    long = fitting("a long name of a song " * 20, 17, 300, bold=True)
    assert long.endswith("…")
    canvas = Canvas(400, 40)
    width = canvas.text(0, 30, long, 17, (1.0, 1.0, 1.0), bold=True)
    assert 270 < width <= 300
    assert fitting("x" * 50, 17, 1) == "…"
