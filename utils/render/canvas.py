"""A picture with fast anti-aliased shapes: matplotlib's Agg renderer without figures and axes.

Coordinates are pixels from the top left corner; colours are (red, green, blue[, alpha]) in 0..1.
"""

from functools import lru_cache

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D, IdentityTransform

from utils.render.fonts import outline as text_outline

Colour = tuple[float, ...]
_NO_TRANSFORMS, _NO_OFFSETS = np.zeros((0, 3, 3)), np.zeros((0, 2))


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with a share in 0..1 of `other`, three channels."""
    return tuple(a + share * (b - a) for a, b in zip(colour[:3], other[:3], strict=True))


def fitting(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """The text, shortened with an ellipsis so that it is at most `width` pixels wide."""
    if text_outline(text, size, bold).vertices[:, 0].max() <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        short = f"{text[:middle].rstrip()}…"
        if text_outline(short, size, bold).vertices[:, 0].max() <= width:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}…"


@lru_cache(maxsize=256)
def _codes(shapes: int, corners: int, closed: bool) -> np.ndarray:
    """Path codes of `shapes` outlines with `corners` corners each."""
    one = np.full(corners + closed, Outline.LINETO, Outline.code_type)
    one[0] = Outline.MOVETO
    if closed:
        one[-1] = Outline.CLOSEPOLY
    return np.tile(one, shapes)


@lru_cache(maxsize=1024)
def _pen(colour: Colour, width: float, cap: str) -> GraphicsContextBase:
    pen = GraphicsContextBase()
    pen.set_foreground(colour if len(colour) == 4 else (*colour, 1.0), isRGBA=True)
    pen.set_linewidth(width)
    pen.set_capstyle(cap)
    pen.set_joinstyle("round")
    pen.set_snap(False)
    return pen


class Canvas:
    """A picture of `height` x `width` pixels.

    Attributes:
        pixels: (height, width, 4) uint8, the picture itself: what is drawn appears here; may be written to.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._renderer = RendererAgg(width, height, 72)  # at 72 dpi a point is a pixel
        self._flip = Affine2D().scale(1, -1).translate(0, height)
        self.pixels = np.asarray(self._renderer.buffer_rgba())

    def polygons(
        self, corners: np.ndarray, fill: Colour | None, edge: Colour | None = None, edge_width: float = 0.0
    ) -> None:
        """Fill (N, corners, 2) polygons as one shape: where they overlap, a translucent fill is laid once."""
        num, each, _ = corners.shape
        closed = np.concatenate([corners, corners[:, :1]], 1).reshape(-1, 2)
        pen = _pen(edge or (0.0, 0.0, 0.0), edge_width if edge else 0.0, "round")
        self._draw(pen, Outline(closed, _codes(num, each, True)), fill)

    def shapes(
        self, corners: np.ndarray, fills: np.ndarray, edges: np.ndarray, edge_widths: np.ndarray
    ) -> None:
        """Fill (N, corners, 2) polygons one over the other: much faster than a call of `polygons` for each.

        Args:
            corners: (N, corners, 2) pixels, the first polygon lowest.
            fills: (N, 4) colours; fewer are taken in turn, here and below.
            edges: (N, 4) colours of the outlines.
            edge_widths: (N,) pixels; 0 for none.
        """
        closed = np.concatenate([corners, corners[:, :1]], 1)
        codes = _codes(1, corners.shape[1], True)
        self._renderer.draw_path_collection(
            _pen((0.0, 0.0, 0.0), 0.0, "round"),
            self._flip.frozen(),
            [Outline(one, codes) for one in closed],
            _NO_TRANSFORMS,
            _NO_OFFSETS,
            IdentityTransform(),
            fills,
            edges,
            edge_widths,
            [(0, None)],  # solid
            [True],  # anti-aliased
            [None],  # no links
            "screen",
        )

    def triangles(self, corners: np.ndarray, colours: np.ndarray) -> None:
        """Fill (N, 3, 2) triangles, the first one lowest, with colours (N, 3, 4) between their corners'."""
        self._renderer.draw_gouraud_triangles(
            _pen((0.0, 0.0, 0.0), 0.0, "round"), corners, colours, self._flip
        )

    def lines(self, points: np.ndarray, colour: Colour, width: float, cap: str = "butt") -> None:
        """Draw (N, points, 2) polylines."""
        num, each, _ = points.shape
        self._draw(_pen(colour, width, cap), Outline(points.reshape(-1, 2), _codes(num, each, False)), None)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: Colour,
        *,
        bold: bool = False,
        align: float = 0.0,
    ) -> float:
        """Write a line of text; (x, y) is on its base line, `align` 0 left, 0.5 centred, 1 right.

        Returns:
            How wide it is, in pixels.
        """
        if not text.strip():
            return 0.0
        outline = text_outline(text, size, bold)
        width = float(outline.vertices[:, 0].max())
        transform = Affine2D().translate(x - align * width, self.height - y)
        fill = colour if len(colour) == 4 else (*colour, 1.0)
        self._renderer.draw_path(_pen((0.0, 0.0, 0.0), 0.0, "round"), outline, transform, fill)
        return width

    def rounded(self, x: float, y: float, width: float, height: float, radius: float, fill: Colour) -> None:
        """Fill a rectangle with round corners, (x, y) its top left."""
        turn = np.linspace(0, np.pi / 2, 7)
        arc = np.stack([np.cos(turn), np.sin(turn)], 1) * radius
        right, low = x + width - radius, y + height - radius
        left, top = x + radius, y + radius
        corners = np.concatenate(
            [
                np.add([right, low], arc),
                [left, low] + arc[::-1] * [-1, 1],
                [left, top] - arc,
                [right, top] + arc[::-1] * [1, -1],
            ]
        )
        self.polygons(corners[None], fill)

    def discs(self, centres: np.ndarray, radius: float, fill: Colour) -> None:
        """Fill round spots at (N, 2) centres."""
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn)], 1) * radius
        self.polygons(np.asarray(centres)[:, None] + ring, fill)

    def _draw(self, pen: GraphicsContextBase, outline: Outline, fill: Colour | None) -> None:
        if fill is not None and len(fill) == 3:
            fill = (*fill, 1.0)
        self._renderer.draw_path(pen, outline, self._flip, fill)
