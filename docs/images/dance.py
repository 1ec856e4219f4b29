"""Makes docs/images/dance.gif, the README's, from the file of a dance that --eval or --dance wrote.

python docs/images/dance.py DANCE.npz
"""

import sys
import tempfile
from pathlib import Path

import av
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from utils.dance import load_dance  # noqa: E402
from utils.render.video import render_video  # noqa: E402

START_S, LENGTH_S, EVERY, HEIGHT, COLOURS = 4.0, 6.0, 5, 270, 64  # every fifth frame: 12 per second


def main(dance: Path) -> None:
    """Draws the dance as a video and keeps a part of it as a gif."""
    shown = load_dance(dance)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "dance.mp4"
        render_video(video, shown, height=HEIGHT)
        with av.open(str(video)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    first, last = (round(s * shown.fps) for s in (START_S, START_S + LENGTH_S))
    palette = frames[first].quantize(COLOURS, Image.Quantize.FASTOCTREE)
    pictures = [
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames[first:last:EVERY]
    ]
    out = ROOT / "docs" / "images" / "dance.gif"
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=round(1000 * EVERY / shown.fps), loop=0
    )
    print(f"{out}: {len(pictures)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
