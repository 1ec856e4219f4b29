"""Sound files: any file PyAV can open -> samples, mono or stereo, at the rate asked for, and back to wav.

This is the only reader: features, beats, videos and pages read a song through `sound_blocks`, so that they
agree about which files can be read, and about where in time each sound lies. As `librosa.load`: mono is the
mean of the channels, taken at the file's own rate, then resampled by soxr. PyAV carries its own ffmpeg, so
mp3, m4a, ogg, flac and the sound of videos need no further programs.

Damage is passed over with one warning as long as most of the sound is there: what cannot be decoded is
replaced by silence of its length where the file's clock tells it, and samples that are no numbers by zeros.
"""

import io
import logging
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np

from utils.files import write_beside

log = logging.getLogger(__name__)

MonoMix = Literal["audible", "mean"]

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}  # "flt" and "dbl" are in [-1, 1]
_STREAMED_WAV = 0x7FFF0000  # bytes; programs that write into a pipe put such a length into the header
_EXACT = ("flac", "wav", "mp4", "aiff", "w64", "caf", "au")  # formats whose header has the exact length
_MOST_MISSING = 0.2  # share of the sound that may be missing
_CANCELLED = 0.1  # share of its expected energy below which the channels' mean counts as cancelled
_SHORTEST_GAP, _LONGEST_GAP = 0.015, 30.0  # seconds between frames: below is jitter, above another clock
_MOST_ERRORS = 100  # of the container, one after the other; its end is not found beyond
_LONGEST_PAGE = 65_536  # bytes of an Ogg page: positions of packets are those of their pages


class SoundBlock(NamedTuple):
    """A piece of sound: samples (channels, n) float32, samples per second, and FFmpeg's channel layout."""

    samples: np.ndarray
    rate: int
    layout: str


def decode_audio(path: str | Path, mono: MonoMix = "audible") -> tuple[np.ndarray, int]:
    """Mono samples of a sound file at its own rate: ((N,) float32 in [-1, 1], samples per second).

    Where the rate changes within the file, the rate is the first, and the rest is resampled to it.

    Args:
        path: the file.
        mono: `mean` is the mean of the channels. `audible` is the mean, too, unless the channels cancel (as
            when one of two is inverted): then the loudest channel is used, with a warning.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `sound_blocks`.
    """
    parts: list[tuple[int, bytearray]] = []  # they grow in place: a list of blocks would be the song twice
    energies, expected, got = np.zeros(0), 0.0, 0.0
    for block in sound_blocks(path):
        mixed = block.samples.mean(axis=0)
        _append(parts, block.rate, mixed)
        channels = np.einsum("cn,cn->c", block.samples, block.samples).astype(np.float64)
        energies = np.pad(energies, (0, max(0, len(channels) - len(energies))))
        energies[: len(channels)] += channels
        expected += channels.sum() / len(channels) ** 2  # of the mean, were the channels not correlated
        got += float(np.dot(mixed, mixed))
    if got < _CANCELLED * expected:
        if mono == "mean":
            warn_once(
                f"{path}: its channels cancel in their mean, which the published features are made of (one "
                "channel is inverted): little or nothing is heard; invert a channel, or use standard features"
            )
        else:
            loudest, parts = int(np.argmax(energies)), []
            warn_once(
                f"{path}: its channels cancel in their mean (one is inverted); channel {loudest + 1} alone "
                "is used"
            )
            for block in sound_blocks(path):
                _append(parts, block.rate, block.samples[min(loudest, len(block.samples) - 1)])
    rate = parts[0][0]
    if len(parts) == 1:
        return np.frombuffer(parts[0][1], np.float32), rate
    return np.concatenate([resample(np.frombuffer(part, np.float32), own, rate) for own, part in parts]), rate


def _append(parts: list[tuple[int, bytearray]], rate: int, samples: np.ndarray) -> None:
    """Append samples (n,) to the last part, or to another part if the rate is another."""
    if not parts or parts[-1][0] != rate:
        parts.append((rate, bytearray()))
    parts[-1][1].extend(np.ascontiguousarray(samples, np.float32).tobytes())


def stereo_blocks(path: str | Path, rate: int) -> Iterator[np.ndarray]:
    """Stereo samples of a sound file, piece by piece: (2, n) float32 at `rate` samples per second.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `sound_blocks`.
    """
    resampler, form = None, None
    for block in sound_blocks(path):
        if resampler is None or form != (block.rate, block.layout):
            if resampler is not None:
                yield from (piece.to_ndarray() for piece in resampler.resample(None))
            resampler, form = av.AudioResampler("fltp", "stereo", rate), (block.rate, block.layout)
        packed = np.ascontiguousarray(block.samples.T).reshape(1, -1)  # planes are limited to eight
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=block.layout)
        frame.sample_rate = block.rate
        yield from (piece.to_ndarray() for piece in resampler.resample(frame))
    if resampler is not None:
        yield from (piece.to_ndarray() for piece in resampler.resample(None))


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Samples (N,) float32 at another rate: (ceil(N * target_rate / rate),) float32, by soxr's HQ filter."""
    if rate == target_rate:
        return samples
    import librosa  # slow to import, and not needed to read at the file's own rate

    import utils.music.numba_cache  # noqa: F401  locks the cache before librosa's functions are compiled

    return librosa.resample(y=samples, orig_sr=rate, target_sr=target_rate, res_type="soxr_hq")


def audio_seconds(path: str | Path) -> float:
    """Length of a sound file in seconds, from its header where it says so, else by decoding it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `sound_blocks`.
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


def sound_blocks(path: str | Path) -> Iterator[SoundBlock]:
    """Decode a file block by block; damage is skipped with one warning that states its extent.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is no sound file, has no sound track, is empty, or more than a
            fifth of its sound is missing or no numbers.
    """
    with _open(path) as container:
        account = _Account(path)
        for block in _decoded(path, container, account):
            samples = block.samples
            finite = np.isfinite(samples)
            if not finite.all():
                account.add_no_numbers(samples, finite)
                samples = np.where(finite, samples, np.float32(0))
            account.values += samples.size
            account.played += samples.shape[1] / block.rate
            yield block._replace(samples=samples)
        account.settle(_promised_seconds(path, container))


_told: set[str] = set()


def warn_once(text: str) -> None:
    """Log a warning, unless this process has logged the same: a song is read for several purposes."""
    if text not in _told:
        _told.add(text)
        log.warning("%s", text)


class _Account:
    """Account of the decoded and the skipped parts of a file, and the verdict at its end.

    Attributes:
        played: seconds given out, silence in place of lost sound included.
        silence: seconds of that silence.
        good_bytes, bad_bytes: sizes of the packets that could and could not be decoded.
        tail_bytes: of the file behind the last packet, where the format leaves nothing there.
        values, no_numbers: samples of all channels, and how many are NaN or infinite.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.played = self.silence = 0.0
        self.good_bytes = self.bad_bytes = self.tail_bytes = 0
        self.values = self.no_numbers = 0
        self.reason = self.first_no_number = ""

    def add_no_numbers(self, samples: np.ndarray, finite: np.ndarray) -> None:
        """Count the samples (channels, n) that are not finite (a bool for each)."""
        if not self.no_numbers:
            self.first_no_number = f"{samples[~finite][0]} at {self.played:.2f} s"
        self.no_numbers += int((~finite).sum())

    def settle(self, promised: float) -> None:
        """Warn of what was passed over, once; `promised` are the seconds by an exact header, else 0.

        Raises:
            ValueError: naming the file, if nothing or too little is left.
        """
        good, bad_bytes = self.played - self.silence, self.bad_bytes + self.tail_bytes
        if good <= 0:
            if bad_bytes or self.reason:
                raise ValueError(
                    f"{self.path} is damaged: no sound in it can be decoded ({self.reason or 'no data'}); "
                    "download or convert it again"
                )
            raise ValueError(f"{self.path} holds no sound: its sound track has zero length; replace the file")
        guessed = 0.0 if promised else good * bad_bytes / max(self.good_bytes, 1)
        total = max(promised, self.played, good + guessed)
        short = good < (1 - _MOST_MISSING) * total
        if self.played < 0.99 * promised - 0.5 and not bad_bytes and not self.silence:
            text = (
                f"{self.path} is cut off: it ends after {self.played:.2f} s where its header says "
                f"{total:.2f} s"
            )
            if short:
                raise ValueError(f"{text}; download or copy it again")
            warn_once(f"{text}; what is there is used")
        elif short:
            raise ValueError(
                f"{self.path} is damaged: {good:.2f} of {total:.2f} s can be decoded"
                f"{f' ({self.reason})' if self.reason else ''}; download or convert it again"
            )
        elif bad_bytes or self.silence:
            whole = max(promised, self.played)
            warn_once(
                f"{self.path}: damage was passed over: {whole - good:.2f} of {whole:.2f} s are missing, "
                f"{bad_bytes} bytes are no sound; if that is too much, download or convert it again"
            )
        if self.no_numbers:
            text = (
                f"{self.path}: {self.no_numbers} of {self.values} samples are NaN or infinite (the first is "
                f"{self.first_no_number}) where numbers in [-1, 1] are expected"
            )
            if self.no_numbers > _MOST_MISSING * self.values:
                raise ValueError(f"{text}; export the song again")
            warn_once(f"{text}; they are read as zeros")


def _open(path: str | Path) -> av.container.InputContainer:
    """The opened file, which has at least one sound track."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no sound file {path}; check the path and the spelling")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes); download or copy it again")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} is no sound file that can be read ({error.strerror}); "
            "expected wav, mp3, m4a, flac, ogg or a video with sound"
        ) from error
    if not container.streams.audio:
        container.close()
        raise ValueError(f"{path} has no sound track; expected a sound file or a video with sound")
    return container


def _decoded(
    path: str | Path, container: av.container.InputContainer, account: _Account
) -> Iterator[SoundBlock]:
    """Decode a file's first sound track; count what cannot be decoded, put silence where sound is lost."""
    size, tags = Path(path).stat().st_size, _tags_begin(path)
    ends: float | None = None  # when the last frame ends, by the file's clock
    last_byte = 0
    for packet in _packets(container, account):
        if packet.pos is not None and packet.size:
            if packet.pos >= tags:
                continue
            last_byte = max(last_byte, packet.pos + packet.size)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            account.bad_bytes += packet.size
            account.reason = error.strerror
            continue
        account.good_bytes += packet.size
        for frame in frames:
            if not frame.samples or not frame.sample_rate:
                continue
            block = SoundBlock(_samples(frame), frame.sample_rate, frame.layout.name)
            starts = frame.time
            if starts is not None and ends is not None and _SHORTEST_GAP < starts - ends < _LONGEST_GAP:
                account.silence += starts - ends
                lost = round((starts - ends) * frame.sample_rate)
                yield block._replace(samples=np.zeros((len(block.samples), lost), np.float32))
            starts = ends if starts is None else starts
            ends = None if starts is None else starts + frame.samples / frame.sample_rate
            yield block
    format_name = container.format.name
    if format_name in ("mp3", "aac", "ogg") and last_byte:
        tail = min(size, tags) - last_byte
        account.tail_bytes = max(0, tail) if format_name != "ogg" else max(0, tail - _LONGEST_PAGE)


def _packets(container: av.container.InputContainer, account: _Account) -> Iterator[av.Packet]:
    """The packets of the first sound track, and an empty one at the end; errors are passed over."""
    stream = container.streams.audio[0]
    for _ in range(_MOST_ERRORS):
        try:
            yield from container.demux(stream)
            return
        except av.FFmpegError as error:
            account.reason = error.strerror


def _promised_seconds(path: str | Path, container: av.container.InputContainer) -> float:
    """Duration in seconds by an exact header; 0 if the header only estimates it or does not state it."""
    stream = container.streams.audio[0]
    known = float(stream.duration * stream.time_base) if stream.duration else 0.0
    names = container.format.name.split(",")
    if "mp3" in names:
        return _xing_seconds(path, stream)
    if "matroska" in names and len(container.streams) == 1:
        return (container.duration or 0) / 1e6
    if not set(names) & set(_EXACT):
        return 0.0
    if "wav" in names:  # ffmpeg goes by the length of the file
        with Path(path).open("rb") as file:
            told = int.from_bytes(file.read(8)[4:], "little") + 8
        return known * told / Path(path).stat().st_size if told < _STREAMED_WAV else 0.0
    return known


def _xing_seconds(path: str | Path, stream: av.AudioStream) -> float:
    """Length of an mp3 by the count of frames that encoders write into its first frame; 0 without one."""
    with Path(path).open("rb") as file:
        start = file.read(10)
        if start[:3] == b"ID3":
            sizes = start[6:10]
            file.seek(10 + sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(reversed(sizes))))
        else:
            file.seek(0)
        head = file.read(4096)
    found = [head.find(mark) for mark in (b"Xing", b"Info") if mark in head]
    rate = stream.codec_context.sample_rate
    if not found or not rate or not head[min(found) + 7] & 1:
        return 0.0
    frames = int.from_bytes(head[min(found) + 8 : min(found) + 12], "big")
    seconds = frames * (1152 if rate >= 32000 else 576) / rate
    trimmed = float(stream.duration * stream.time_base) if stream.duration else 0.0
    return trimmed if seconds - 0.2 < trimmed < seconds else seconds  # less the coder's delay, if known


def _tags_begin(path: str | Path) -> int:
    """Offset of the tags at a file's end (ID3v1, APEv2 with cover pictures), or its size without tags."""
    path = Path(path)
    end = path.stat().st_size
    with path.open("rb") as file:

        def read(start: int, count: int) -> bytes:
            file.seek(max(0, start))
            return file.read(count)

        if read(end - 128, 3) == b"TAG":
            end -= 128
        foot = read(end - 32, 32)
        if foot[:8] == b"APETAGEX":
            has_header = int.from_bytes(foot[20:24], "little") >> 31
            end -= int.from_bytes(foot[12:16], "little") + 32 * has_header
    return end


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """A frame's samples (channels, n) float32."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T  # packed: left, right, left, right, ...
    kind = frame.format.name.removesuffix("p")
    if kind == "u8":
        samples = samples.astype(np.float32) - _FULL_SCALE[kind]
    with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite, and is reported
        return samples.astype(np.float32) / np.float32(_FULL_SCALE.get(kind, 1.0))
