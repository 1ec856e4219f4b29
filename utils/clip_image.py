"""A video file as TensorBoard can show it: a small moving GIF among its images.

`SummaryWriter.add_video` does the same by way of moviepy, which nothing else here needs.
"""

import io
from pathlib import Path

import av
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary


def moving_picture(tag: str, path: Path, seconds: float = 6.0, fps: int = 10, height: int = 180) -> Summary:
    """The first seconds of a video, as few and small pictures as curves can bear.

    Args:
        tag: TensorBoard's name for it.
        path: a video file.
        seconds: how much of it.
        fps: pictures per second.
        height: of a picture, in pixels.
    """
    pictures: list[Image.Image] = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            time = float(frame.time or 0.0)
            if time >= seconds:
                break
            if time * fps >= len(pictures) - 1e-6:
                width = round(frame.width * height / frame.height)
                pictures.append(frame.to_image(width=width, height=height))
    content = io.BytesIO()
    pictures[0].save(
        content, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
    )
    image = Summary.Image(
        height=pictures[0].height,
        width=pictures[0].width,
        colorspace=3,
        encoded_image_string=content.getvalue(),
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])
