"""Fonts for text of any script, as file names become titles of pictures and videos unchanged.

Text is never read as matplotlib's mathtext, where `$` begins a formula. Characters that DejaVu Sans, which
comes with matplotlib, does not have are taken from another installed font, and are boxes where there is none.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

FAMILY = "DejaVu Sans"
_BOXES = "Last Resort"  # matplotlib's font of boxes for all characters there are; it is asked last anyway


def plain_line(text: str) -> str:
    """Text on one line that can be drawn: no line breaks, no control characters, no surrogates."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(sign if sign.isprintable() or sign == "\u200d" else "\ufffd" for sign in line)


@lru_cache(maxsize=256)
def families_for(text: str, bold: bool = False) -> tuple[str, ...]:
    """Font families to draw a text with: DejaVu Sans, then others that have what it lacks.

    Args:
        text: any text.
        bold: whether it is drawn in bold.
    """
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    first = findfont(FontProperties(family=FAMILY, weight="bold" if bold else "normal"))
    missing = {ord(sign) for sign in text if sign.isprintable() and not sign.isspace()} - _characters(first)
    families = [FAMILY]
    for font in sorted(fontManager.ttflist, key=lambda font: (font.style != "normal", font.name, font.fname)):
        if not missing:
            break
        if font.name in families or font.name.startswith(_BOXES):
            continue
        if found := missing & _characters(font.fname):
            families.append(font.name)
            missing -= found
    return tuple(families)


@lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[int]:
    """Code points a font file has outlines for; none for a font of bitmaps, or one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError, ValueError):
        return frozenset()


@contextmanager
def missing_glyphs_are_boxes() -> Iterator[None]:
    """Suppress matplotlib's warnings for characters that no font has, and for fonts without bold.

    A box is drawn instead, or the font's regular weight.
    """
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in ("Glyph .* missing from", "Matplotlib currently does not support"):
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            yield
    finally:
        fonts.setLevel(level)


@lru_cache(maxsize=512)
def outline(text: str, size: float, bold: bool) -> Any:
    """Outlines of a line of text as a matplotlib path, `size` pixels high, from (0, 0) on its base line."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextToPath

    text = plain_line(text)
    prop = FontProperties(family=list(families_for(text, bold)), weight="bold" if bold else "normal")
    maker = TextToPath()
    with missing_glyphs_are_boxes():
        corners, codes = maker.get_text_path(prop, text, ismath=False)
    if not len(corners):
        return Path([[0.0, 0.0]], [Path.MOVETO])
    return Path(np.asarray(corners) * (size / maker.FONT_SCALE), codes)


def title_style(text: str) -> dict[str, Any]:
    """Keywords for a matplotlib title that show a text unchanged, see `families_for`."""
    return {"parse_math": False, "fontfamily": list(families_for(text))}
