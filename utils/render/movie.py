"""The mp4 writer: H.264 pictures and AAC sound that browsers play, through PyAV; beside and renamed."""

import logging
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

from utils.music.audio import stereo_blocks

log = logging.getLogger(__name__)
_RATE = 48000  # Hz of the sound that is written
_X264 = {
    "preset": "veryfast",
    "crf": "19",
    "profile": "high",
    # a searching encoder finds little in flat limbs before a still background, and one scene needs no cuts
    "x264-params": "bframes=3:b-adapt=0:rc-lookahead=5:me=dia:subme=0:weightp=0:scenecut=0",
}
_AAC = {"aac_coder": "fast"}  # for music a third of the time of the default search, at the same bit rate
_PIECE = 1024  # samples per AAC frame


def read_song(path: Path | None, seconds: float) -> np.ndarray | None:
    """The first seconds of a song, faded out at the end.

    Args:
        path: any file that FFmpeg reads.
        seconds: how much of it; a shorter song stays short.

    Returns:
        (2, samples) float32 at 48 kHz; None where there is no file, which is logged.

    Raises:
        ValueError: if the file holds no sound, or is damaged, as `utils.music.audio.sound_blocks` says.
    """
    if path is None:
        return None
    if not Path(path).is_file():
        log.warning("no song %s: the video is silent", path)
        return None
    wanted, got = round(seconds * _RATE), 0
    sound = np.empty((2, wanted), np.float32)  # filled in place: an hour is 1.4 GB, once
    for samples in stereo_blocks(path, _RATE):  # to the end, so that a damaged file is refused as everywhere
        part = samples[:, : wanted - got]
        sound[:, got : got + part.shape[1]] = part
        got += part.shape[1]
    sound = sound[:, :got]
    tail = min(sound.shape[1], _RATE // 20)
    sound[:, sound.shape[1] - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
    return sound


class Movie:
    """An mp4 file that is being written; it appears when the `with` block ends without an error.

    Args:
        path: of the file.
        width: of the pictures, pixels, even.
        height: of the pictures, pixels, even.
        fps: pictures per second.
        sound: (2, samples) float32 at 48 kHz, or None for a silent video.
        threads: how many the encoder may use; 0 leaves it to the encoder.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: float,
        sound: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        self.path, self.fps, self.sound = Path(path), Fraction(fps).limit_denominator(1001), sound
        self._beside = self.path.with_name(self.path.name + ".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(
            str(self._beside), "w", format="mp4", container_options={"movflags": "+faststart"}
        )
        self._video = self._container.add_stream("libx264", rate=self.fps, options=_X264)
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        context = self._video.codec_context
        context.thread_count = threads
        context.time_base = 1 / self.fps
        context.color_range, context.colorspace = 1, 1  # television range, BT.709
        context.color_primaries, context.color_trc = 1, 1
        self._audio = None
        if sound is not None:
            self._audio = self._container.add_stream("aac", rate=_RATE, layout="stereo", options=_AAC)
            self._audio.bit_rate = 160_000
        self._reformat = av.video.reformatter.VideoReformatter()
        self._frames = self._samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_sound(None)
                for stream in (self._video, self._audio):
                    if stream is not None:
                        self._container.mux(stream.encode(None))
        finally:
            self._container.close()
            if kind is not None:
                self._beside.unlink(missing_ok=True)
        if kind is None:
            self._beside.replace(self.path)

    def write(self, pixels: np.ndarray) -> None:
        """Append a picture (height, width, 4) uint8 RGBA, and the sound up to its time."""
        frame = av.VideoFrame.from_numpy_buffer(pixels, format="rgba")
        frame = self._reformat.reformat(
            frame, format="yuv420p", src_colorspace="ITU709", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = self._frames, 1 / self.fps
        self._container.mux(self._video.encode(frame))
        self._frames += 1
        self._write_sound(int(self._frames / self.fps * _RATE))

    def _write_sound(self, until: int | None) -> None:
        if self._audio is None or self.sound is None:
            return
        end = self.sound.shape[1] if until is None else min(until, self.sound.shape[1])
        while self._samples < end and (until is None or end - self._samples >= _PIECE):
            piece = np.ascontiguousarray(self.sound[:, self._samples : min(self._samples + _PIECE, end)])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = _RATE, self._samples, Fraction(1, _RATE)
            self._container.mux(self._audio.encode(frame))
            self._samples += piece.shape[1]
