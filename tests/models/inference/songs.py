"""Songs of seconds, in several formats, and how --dance is called."""

import json
import re

import av
import numpy as np

CONFIG = "configs/sample/actor_critic.yaml"
SILENT = ["dance.formats=[]"]
RATE = 22050


def sound(seconds=3.0, beat=0.5, first=0.0, seed=0):
    """A click with a tail on every beat, and a tone."""
    time = np.arange(round(seconds * RATE)) / RATE
    since = np.where(time >= first, (time - first) % beat, 9.0)
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.5 * noise * np.exp(-40 * since) + 0.05 * np.sin(2 * np.pi * (220 + 30 * seed) * time)) / 2


def encode(path, samples, codec):
    """Writes samples as mp3, m4a and the like."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono")
        resampler = av.AudioResampler(
            "fltp", "mono", RATE, frame_size=stream.codec_context.frame_size or 1024
        )
        whole = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        whole.sample_rate = RATE
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            file.mux(stream.encode(frame))
    return path


def motion(folder, name):
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def entries(folder):
    text = (folder / "index.html").read_text()
    return json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text, re.DOTALL)[1])["entries"]
