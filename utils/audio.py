"""Sound files: any file PyAV can open -> mono float samples at the rate asked for, and back to wav.

As `librosa.load`: mono is the mean of the channels, taken at the file's own rate, then resampled by soxr.
PyAV carries its own ffmpeg, so mp3, m4a, ogg, flac and the sound of videos need no further programs.
"""

import io
import wave
from pathlib import Path

import av
import numpy as np

from utils.files import write_beside

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}  # "flt" and "dbl" are in [-1, 1]
_STREAMED_WAV = 0x7FFF0000  # bytes; programs that write into a pipe put such a length into the header


def read_audio(path: str | Path, sample_rate: int) -> np.ndarray:
    """Mono samples of a sound file (or of a video's first sound track).

    Args:
        path: the file.
        sample_rate: samples per second wanted.

    Returns:
        (N,) float32 in [-1, 1] (a lossy file may overshoot a little), N = ceil(seconds * sample_rate).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no sound file, has no sound track, is empty or damaged.
    """
    samples, rate = decode_audio(path)
    return resample(samples, rate, sample_rate)


def decode_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """Mono samples of a sound file at its own rate: ((N,) float32 in [-1, 1], samples per second).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no sound file, has no sound track, is empty or damaged.
    """
    sound = bytearray()  # it grows in place: a list of blocks to be joined would be the song twice
    with _open(path) as container:
        stream = container.streams.audio[0]
        rate = stream.codec_context.sample_rate
        try:
            for frame in container.decode(stream):
                if frame.sample_rate != rate:
                    raise ValueError(
                        f"{path} changes its sample rate from {rate} to {frame.sample_rate} Hz half-way; "
                        "convert it to wav first"
                    )
                sound += _mono(frame).tobytes()
        except av.FFmpegError as error:
            seconds = len(sound) / np.dtype(np.float32).itemsize / max(rate, 1)
            raise ValueError(
                f"{path} is damaged after {seconds:.1f} s of sound ({error.strerror}); "
                "download or convert it again"
            ) from error
        promised = _promised_seconds(path, container)
    samples = np.frombuffer(sound, np.float32)
    seconds = len(samples) / max(rate, 1)
    if not seconds:
        raise ValueError(f"{path} holds no sound: its sound track has zero length; replace the file")
    if seconds < 0.99 * promised - 0.5:
        raise ValueError(
            f"{path} is cut off: it ends after {seconds:.2f} s where its header says {promised:.2f} s; "
            "download or copy it again"
        )
    return samples, rate


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Samples (N,) float32 at another rate: (ceil(N * target_rate / rate),) float32, by soxr's HQ filter."""
    if rate == target_rate:
        return samples
    import librosa  # slow to import, and not needed to read at the file's own rate

    return librosa.resample(y=samples, orig_sr=rate, target_sr=target_rate, res_type="soxr_hq")


def audio_seconds(path: str | Path) -> float:
    """Length of a sound file in seconds, from its header where it says so, else by decoding it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no sound file, has no sound track, is empty or damaged.
    """
    with _open(path) as container:
        stream = container.streams.audio[0]
        if stream.duration:
            return float(stream.duration * stream.time_base)
    samples, rate = decode_audio(path)
    return len(samples) / rate


def write_wav(path: str | Path, samples: np.ndarray, rate: int) -> None:
    """Writes samples as a 16-bit wav file, beside and renamed.

    Args:
        path: the file; its folder is made.
        samples: (N,) mono or (N, channels), floats in [-1, 1]; what lies beyond is clipped.
        rate: samples per second.

    Raises:
        ValueError: if the samples are of another shape or not finite.
    """
    path, samples = Path(path), np.asarray(samples)
    if samples.ndim not in (1, 2) or not np.isfinite(samples).all():
        raise ValueError(f"{path}: expected finite samples (N,) or (N, channels), got shape {samples.shape}")
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    write_beside(path, output.getbuffer())


def _open(path: str | Path) -> av.container.InputContainer:
    """The opened file, which has at least one sound track."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no sound file {path}; check the path and the spelling")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes); download or copy it again")
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} is no sound file that can be read ({error.strerror}); "
            "expected wav, mp3, m4a, flac, ogg or a video with sound"
        ) from error
    if not container.streams.audio:
        container.close()
        raise ValueError(f"{path} has no sound track; expected a sound file or a video with sound")
    return container


def _promised_seconds(path: str | Path, container: av.container.InputContainer) -> float:
    """How long the sound should be by a header that is exact (wav, flac, mp4); 0 where it only estimates."""
    stream = container.streams.audio[0]
    known = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if container.format.name == "flac" or "mp4" in container.format.name:
        return known
    if container.format.name == "wav":  # ffmpeg goes by the length of the file
        with Path(path).open("rb") as file:
            told = int.from_bytes(file.read(8)[4:], "little") + 8
        if told < _STREAMED_WAV:
            return known * told / Path(path).stat().st_size
    return 0.0


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """Mean of a frame's channels, (n,) float32."""
    channels = frame.layout.nb_channels
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T  # packed: left, right, left, right, ...
    kind = frame.format.name.removesuffix("p")
    if kind == "u8":
        samples = samples.astype(np.float32) - _FULL_SCALE[kind]
    samples = samples.astype(np.float32) / np.float32(_FULL_SCALE.get(kind, 1.0))
    return samples.mean(axis=0)
