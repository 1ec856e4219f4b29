"""Draws docs/images/dataflow.png, the picture of docs/METHOD.md.

python docs/images/dataflow.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

INK, GREY, LEARNT = "#111111", "#8a8a8a", "#e8e8e8"
HIGH = 5.0  # of a box

# name: (x of the centre, y, width, text, whether something in it learns)
BOXES = {
    "joints": (7, 62, 12, "joints\nT x 24 x 3 m", False),
    "upper": (23, 66, 12, "upper\nT x 45", False),
    "lower": (23, 57, 12, "lower\nT x 27", False),
    "encoder_u": (39, 66, 12, "encoder\n60 -> 7.5 /s", True),
    "encoder_l": (39, 57, 12, "encoder\n60 -> 7.5 /s", True),
    "codes_u": (55, 66, 12, "codebook\n512 x 512", True),
    "codes_l": (55, 57, 12, "codebook\n512 x 512", True),
    "decoder_u": (74, 66, 12, "decoder\n7.5 -> 60 /s", True),
    "decoder_l": (74, 57, 12, "decoder\n7.5 -> 60 /s", True),
    "decoder_v": (74, 45, 12, "decoder\nroot, T x 3", True),
    "dance": (93, 57, 12, "joints\nT x 24 x 3 m", False),
    "song": (7, 31, 12, "song", False),
    "music": (23, 31, 12, "features\nT' x 438", False),
    "base": (39, 31, 12, "base\n6 blocks", True),
    "head": (55, 31, 12, "head\n6 blocks", True),
    "next": (74, 31, 12, "next codes\nupper, lower", False),
    "beats": (23, 9, 12, "music beats\n60 /s", False),
    "value": (39, 19, 12, "value\n3 blocks", True),
    "td": (55, 19, 12, "TD error\nper code", False),
    "reward": (74, 9, 12, "reward\nper code", False),
}
LANES = [
    (52.0, 71.5, "1  choreographic memory"),
    (39.5, 50.5, "2  global velocity"),
    (25.5, 38.0, "3  motion GPT"),
    (4.0, 24.0, "4  actor-critic"),
]


def edge(name: str, side: str) -> tuple[float, float]:
    """Where an arrow meets a box."""
    x, y, width, _, _ = BOXES[name]
    away = {"left": (-width / 2, 0), "right": (width / 2, 0), "top": (0, HIGH / 2), "bottom": (0, -HIGH / 2)}
    return x + away[side][0], y + away[side][1]


def draw(axes: Axes, points: list[tuple[float, float]], dashed: bool = False) -> None:
    """A line through the points, with a head at the last."""
    style = (0, (3, 2)) if dashed else "-"
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color=INK, lw=1, ls=style, solid_capstyle="butt")
    arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1, "ls": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=arrow)


def straight(axes: Axes, one: str, other: str) -> None:
    """An arrow to the right."""
    draw(axes, [edge(one, "right"), edge(other, "left")])


def main() -> None:
    """Draws it."""
    plt.rcParams["font.family"] = "DejaVu Sans Mono"
    figure, axes = plt.subplots(figsize=(11, 7.6), dpi=110)
    axes.set(xlim=(0, 100), ylim=(2.5, 73), xticks=[], yticks=[])
    axes.set_axis_off()
    for low, high, text in LANES:
        axes.add_patch(Rectangle((0.3, low), 99.4, high - low, fill=False, ec=GREY, lw=0.8, ls=(0, (1, 2))))
        axes.text(1.2, high - 0.9, text, fontsize=9, va="top", color=GREY)
    for x, y, width, text, learns in BOXES.values():
        colour = LEARNT if learns else "white"
        axes.add_patch(
            Rectangle((x - width / 2, y - HIGH / 2), width, HIGH, fc=colour, ec=INK, lw=1, zorder=2)
        )
        axes.text(x, y, text, fontsize=8.2, ha="center", va="center", color=INK, zorder=3, linespacing=1.35)

    fork = 15.0
    draw(axes, [edge("joints", "right"), (fork, 62), (fork, 66), edge("upper", "left")])
    draw(axes, [(fork, 62), (fork, 57), edge("lower", "left")])
    for half in "ul":
        straight(axes, {"u": "upper", "l": "lower"}[half], f"encoder_{half}")
        straight(axes, f"encoder_{half}", f"codes_{half}")
        straight(axes, f"codes_{half}", f"decoder_{half}")
    draw(axes, [(64.5, 57), (64.5, 45), edge("decoder_v", "left")])
    straight(axes, "decoder_l", "dance")
    draw(axes, [edge("decoder_u", "right"), (93, 66), edge("dance", "top")])
    draw(axes, [edge("decoder_v", "right"), (93, 45), edge("dance", "bottom")])
    axes.text(81, 46, "sum over time", fontsize=7.5, color=GREY, va="bottom")

    for one, other in (("song", "music"), ("music", "base"), ("base", "head"), ("head", "next")):
        straight(axes, one, other)
    draw(axes, [edge("codes_l", "bottom"), (55, 41.5), (39, 41.5), edge("base", "top")])
    axes.text(47, 42.2, "codes so far", fontsize=7.5, color=GREY, ha="center", va="bottom")
    draw(axes, [edge("next", "top"), (74, 36), (62.3, 36), (62.3, 56.8)], dashed=True)
    axes.text(63.1, 36.8, "decoded when it dances", fontsize=7.5, color=GREY, va="bottom")

    draw(axes, [(fork, 31), (fork, 9), edge("beats", "left")])
    straight(axes, "beats", "reward")
    draw(axes, [edge("base", "bottom"), edge("value", "top")])
    straight(axes, "value", "td")
    draw(axes, [edge("reward", "top"), (74, 19), edge("td", "right")])
    draw(axes, [edge("td", "top"), edge("head", "bottom")], dashed=True)
    axes.text(55.8, 22.6, "weighs -log p", fontsize=7.5, color=GREY, va="center")
    draw(axes, [(96, 54.5), (96, 9), edge("reward", "right")], dashed=True)
    axes.text(95.3, 9.7, "decoded pose", fontsize=7.5, color=GREY, ha="right", va="bottom")
    axes.text(
        1.2,
        4.8,
        "grey: learns   dashed: only in generation and finetuning",
        fontsize=7.5,
        color=GREY,
        va="bottom",
    )
    figure.savefig(Path(__file__).with_suffix(".png"), bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main()
