"""A song small enough to travel within a page: AAC in an mp4, which every browser plays, through PyAV."""

import io
from pathlib import Path

import av
import numpy as np

_RATE = 44100  # Hz
_BIT_RATE = 96_000  # three minutes are 2.2 MB, 2.9 MB as text
_PIECE = 1024  # samples per AAC frame
_FADE_SECONDS = 0.05
_AAC = {"aac_coder": "fast"}  # a third of the time of the default search


def song_bytes(path: Path, seconds: float) -> bytes:
    """The first seconds of a song as an m4a file, faded out where it is cut.

    Args:
        path: any file that FFmpeg reads.
        seconds: how much of it; a shorter song stays short.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no sound, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no song {path}; check the path and the spelling")
    end, file, done = round(seconds * _RATE), io.BytesIO(), 0
    try:
        with av.open(str(path)) as source, av.open(file, "w", format="mp4") as out:
            if not source.streams.audio:
                raise ValueError(f"{path} has no sound track; expected a song or a video with sound")
            stream = out.add_stream("aac", rate=_RATE, layout="stereo", options=_AAC)
            stream.bit_rate = _BIT_RATE
            resampler = av.AudioResampler("fltp", "stereo", _RATE, frame_size=_PIECE)
            for frame in source.decode(audio=0):
                frame.pts = None
                for piece in resampler.resample(frame):
                    done += _write(out, stream, piece.to_ndarray(), done, end)
                if done >= end:
                    break
            else:
                for piece in resampler.resample(None):
                    done += _write(out, stream, piece.to_ndarray(), done, end)
            if done:
                out.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} is no song that can be read ({error.strerror}); convert it again"
        ) from error
    if not done:
        raise ValueError(f"{path} holds no sound: its sound track has zero length; replace the file")
    return file.getvalue()


def _write(
    out: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray, done: int, end: int
) -> int:
    """Encodes (2, n) samples that begin at sample `done`, up to `end`; returns how many were written."""
    samples = samples[:, : max(end - done, 0)]
    if not samples.shape[1]:
        return 0
    left = end - done - np.arange(samples.shape[1])
    samples = samples * np.clip(left / (_FADE_SECONDS * _RATE), 0, 1).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = _RATE, done
    out.mux(stream.encode(frame))
    return samples.shape[1]
