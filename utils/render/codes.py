"""One self-contained HTML page that shows what each code of a choreographic memory stands for.

A card per used code, an animated figure on each; a click plays it large, beside the real movement it was
nearest to. Its parts are codes.html, codes.css and codes.js; nothing is fetched from anywhere.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.files import write_beside
from utils.render.canvas import Colour
from utils.render.figure import GREY, LOWER, UPPER, Palette, limb_colours
from utils.render.player_page import fill
from utils.skeleton import SMPL_24, Skeleton

_BUDGET = 2_200_000  # bytes of real clips before base64: the page stays below 5 MB
_EVERY = 2  # of the frames of a real clip are kept


class RealClip(NamedTuple):
    """A clip of a real dance that uses a code.

    Attributes:
        name: of the sequence.
        start: seconds from its beginning.
        distance: metres between its joints and the code's own movement, a mean.
        joints: (T, J, 3) metres: the movement around it.
    """

    name: str
    start: float
    distance: float
    joints: np.ndarray


class CodeCard(NamedTuple):
    """One code.

    Attributes:
        code: its number.
        uses: number of uses.
        joints: (T, J, 3) metres: its own movement.
        genres: share of its uses by the genre's name.
        clips: the nearest real ones, the nearest first.
    """

    code: int
    uses: int
    joints: np.ndarray
    genres: Mapping[str, float]
    clips: Sequence[RealClip]


class CodeSection(NamedTuple):
    """A codebook.

    Attributes:
        half: `upper`, `lower` or `whole`.
        num_codes: in the codebook, used or not.
        perplexity: of the usage.
        cards: of the used codes.
    """

    half: str
    num_codes: int
    perplexity: float
    cards: Sequence[CodeCard]


def write_code_page(
    path: Path, title: str, sections: Sequence[CodeSection], *, fps: float, skeleton: Skeleton = SMPL_24
) -> None:
    """Write the page; cards are sorted by usage. Pages of large codebooks hold fewer real clips.

    Args:
        path: of the page; written beside and renamed.
        title: over the page.
        sections: the codebooks.
        fps: frames per second of all joints.
        skeleton: whose joints they are.

    Raises:
        ValueError: if there is no card, or joints have another shape or are not finite.
    """
    if not any(section.cards for section in sections):
        raise ValueError("the page of codes has no cards")
    playable = _playable(sections)
    content = {
        "title": title,
        "fps": fps,
        "every": _EVERY,
        "bones": skeleton.bones,
        "head": skeleton.index("head"),
        "sections": [_section(section, skeleton, playable) for section in sections],
    }
    write_beside(path, fill("codes.html", ("codes.css",), ("codes.js",), title, content, "img-src data:"))


def _playable(sections: Sequence[CodeSection]) -> int:
    """Number of real clips of each code that the page holds without exceeding its size."""
    clips = [clip for section in sections for card in section.cards for clip in card.clips]
    size = sum(clip.joints[::_EVERY].size * 2 for clip in clips)
    most = max((len(card.clips) for section in sections for card in section.cards), default=0)
    return most if size <= _BUDGET else most * _BUDGET // size


def _section(section: CodeSection, skeleton: Skeleton, playable: int) -> dict[str, Any]:
    palette = Palette(
        upper=GREY if section.half == "lower" else UPPER, lower=GREY if section.half == "upper" else LOWER
    )
    cards = sorted(section.cards, key=lambda card: (-card.uses, card.code))
    return {
        "half": section.half,
        "codes": section.num_codes,
        "perplexity": section.perplexity,
        "colours": [_css(colour) for colour in limb_colours(skeleton, palette)],
        "cards": [_card(card, skeleton, playable) for card in cards],
    }


def _card(card: CodeCard, skeleton: Skeleton, playable: int) -> dict[str, Any]:
    return {
        "code": card.code,
        "count": card.uses,
        "motion": _pack(card.joints, skeleton, f"code {card.code}"),
        "genres": sorted(card.genres.items(), key=lambda item: -item[1]),
        "clips": [
            {
                "name": clip.name,
                "start": round(clip.start, 2),
                "distance": round(clip.distance, 4),
                "motion": _pack(clip.joints[::_EVERY], skeleton, clip.name) if rank < playable else "",
            }
            for rank, clip in enumerate(card.clips)
        ],
    }


def _pack(joints: np.ndarray, skeleton: Skeleton, name: str) -> str:
    """Millimetres as base64 of little-endian int16, the root of the first frame over the origin."""
    shape = np.shape(joints)
    if len(shape) != 3 or shape[0] < 1 or shape[1:] != (skeleton.num_joints, 3):
        raise ValueError(f"{name!r}: expected (T, {skeleton.num_joints}, 3) joints, got {shape}")
    if not np.isfinite(joints).all():
        raise ValueError(f"{name!r} holds NaN or infinity")
    moved = joints - joints[:1, :1]
    whole = np.clip(np.round(1000 * moved), -32768, 32767).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()


def _css(colour: Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)
