"""The text over the picture: title, time, the two current codes in colour, the beat's dot, the progress."""

import numpy as np

from utils.render.canvas import Canvas, Colour, fitting, mixed
from utils.render.figure import LOWER, UPPER

_INK: Colour = (0.93, 0.95, 0.98)
_SOFT: Colour = (0.60, 0.65, 0.75)
_BEAT: Colour = (1.0, 0.86, 0.5)
_DARK: Colour = (0.06, 0.07, 0.10)


class Overlay:
    """The text over every frame of a video.

    Args:
        width: of the picture, pixels.
        height: of the picture, pixels.
        num_frames: of the video.
        fps: frames per second.
        title: written at the top left, on one line.
        beat_frames: frames of the music beats.
        strengths: (T,) the beat's pulse in each frame, 0..1.
    """

    def __init__(
        self,
        width: int,
        height: int,
        num_frames: int,
        fps: float,
        title: str,
        beat_frames: np.ndarray,
        strengths: np.ndarray,
    ) -> None:
        self.width, self.height, self.unit = width, height, height / 540
        self.num_frames, self.fps, self.title = num_frames, fps, title
        self.strengths = strengths
        self._shown: tuple[int, int] | None = None
        self._chips = np.zeros((0, 0, 4), np.uint16), np.zeros((0, 0, 4), np.uint16)
        self._margin = self._clock = 26 * self.unit
        self._bar = height - 14 * self.unit, width - 2 * self._margin
        x = self._margin + self._bar[1] * beat_frames / max(1, num_frames)
        low = np.full_like(x, self._bar[0] - 4 * self.unit)
        self._ticks = np.stack([np.stack([x, low], 1), np.stack([x, low - 4 * self.unit], 1)], 1)

    def prepare(self, canvas: Canvas) -> None:
        """Write the text that never changes, once, onto the background."""
        right = self.width - self._margin
        y, length = self._bar
        total = canvas.text(
            right, 38 * self.unit, f"/ {self.num_frames / self.fps:.1f} s", 15 * self.unit, _SOFT, align=1.0
        )
        self._clock = right - total - 8 * self.unit
        room = self._clock - 90 * self.unit - self._margin  # the time and the beat's dot stand to its right
        title = fitting(self.title, 17 * self.unit, room, bold=True)
        canvas.text(self._margin, 38 * self.unit, title, 17 * self.unit, _INK, bold=True)
        canvas.lines(
            np.array([[[self._margin, y], [self._margin + length, y]]]), (*_INK, 0.13), 2.5 * self.unit
        )
        if len(self._ticks):
            canvas.lines(self._ticks, (*_SOFT, 0.55), max(1.0, self.unit))

    def draw(self, canvas: Canvas, frame: int, codes: tuple[int, int] | None) -> None:
        """Write over a frame; `codes` are the upper and lower code of the moment."""
        unit, margin = self.unit, self._margin
        seconds = f"{np.floor(frame / self.fps * 10) / 10:.1f}"
        canvas.text(self._clock, 38 * unit, seconds, 15 * unit, _INK, align=1.0)
        if len(self._ticks):
            strength = float(self.strengths[frame])
            colour = mixed((0.25, 0.27, 0.34), _BEAT, strength)
            canvas.discs(
                np.array([[self._clock - 60 * unit, 32.5 * unit]]), (4 + 3.5 * strength) * unit, colour
            )
        y, length = self._bar
        done = margin + length * (frame + 1) / self.num_frames
        canvas.lines(np.array([[[margin, y], [done, y]]]), _INK, 2.5 * unit)
        if codes is not None:
            self._draw_codes(canvas, codes)

    def _draw_codes(self, canvas: Canvas, codes: tuple[int, int]) -> None:
        if codes != self._shown:
            picture = self._draw_chips(codes).astype(np.uint16)
            share = picture[..., 3:]
            self._shown, self._chips = codes, (picture * share // 255, 256 - share * 256 // 255)
        added, kept = self._chips
        left, top = int(self._margin), int(self.height - 66 * self.unit)
        under = canvas.pixels[top : top + len(added), left : left + added.shape[1]]
        under[:] = added + ((under * kept) >> 8)

    def _draw_chips(self, codes: tuple[int, int]) -> np.ndarray:
        """(height, width, 4) picture of both codes with round corners; kept while they last."""
        unit = self.unit
        canvas = Canvas(int(np.ceil(219 * unit)), int(np.ceil(31 * unit)))
        canvas.pixels[:] = 0
        x = top = 0.0
        for name, code, colour in (("upper", codes[0], UPPER), ("lower", codes[1], LOWER)):
            canvas.rounded(x, top, 104 * unit, 30 * unit, 9 * unit, mixed(colour, (1.0, 1.0, 1.0), 0.12))
            text = str(code) if code >= 0 else "–"  # there is none while the dancer rests
            canvas.text(x + 11 * unit, top + 20 * unit, name, 13 * unit, _DARK)
            canvas.text(x + 93 * unit, top + 20.5 * unit, text, 15.5 * unit, _DARK, bold=True, align=1.0)
            x += 114 * unit
        return canvas.pixels
