"""Dancing while the music arrives: music features in, codes and joints out, in memory that never grows.

A code needs no more music than its own step. The convolutions that decode it look ahead, though: a frame is
given out once no later code can change it, `look_ahead` codes after its own (26 codes, 3.5 s, with the
published sizes). All that is given out equals what `generate` and `decode` make of the whole song.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.composer import Composer, GenerationConfig
from models.conv import ConvConfig, Decoder, ResidualBlock
from models.given import FREE, decided_codes
from models.gpt import MotionGPT
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import with_root


class DanceChunk(NamedTuple):
    """What a chunk of music gave.

    Attributes:
        codes: (n,) each, one pair per music step.
        joints: (m, J, 3) metres; the frames that are final now, which follow those of the last chunk.
    """

    codes: Codes
    joints: Tensor


def look_ahead(config: ConvConfig) -> int:
    """How many codes after its own a frame waits for, by the decoder's receptive field."""
    frame = config.frames_per_code - 1  # the last one of code 0 looks furthest
    reach = sum(config.dilation_growth**d for d in range(config.depth))
    latest = frame + 1  # the output convolution
    for _ in range(config.downsamplings):
        latest = latest // 2 + 1 + reach  # a transposed convolution makes outputs 2i, 2i+1 of i-1, i, i+1
    return latest + 1


class StreamedLayer:
    """A layer whose output at a time needs `margin` inputs on both sides; beyond the ends there are zeros."""

    def __init__(self, layer: nn.Module, margin: int, upsampling: int = 1) -> None:
        self.layer, self.margin, self.upsampling = layer, margin, upsampling
        self.waiting: Tensor | None = None

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Takes in inputs (B, C, n >= 0) and gives the outputs (B, C', m) that they decide."""
        if self.waiting is None:
            self.waiting = F.pad(x[..., :0], (self.margin, 0))
        x = torch.cat([self.waiting, x], -1)
        if last:
            x = F.pad(x, (0, self.margin))
        self.waiting = x[..., max(0, x.shape[-1] - 2 * self.margin) :].clone()
        if x.shape[-1] <= 2 * self.margin:
            return self._nothing(x)
        edge = self.margin * self.upsampling
        y = self.layer(x)
        return y[..., edge : y.shape[-1] - edge]

    def _nothing(self, x: Tensor) -> Tensor:
        return self.layer(F.pad(x[..., :0], (0, 2 * self.margin + 1)))[..., :0]


class StreamedBlock:
    """A residual block: what goes around its convolutions waits for them."""

    def __init__(self, block: ResidualBlock, dilation: int) -> None:
        self.inner = StreamedLayer(block.layers, dilation)
        self.around: Tensor | None = None

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """As `StreamedLayer.push`."""
        self.around = x if self.around is None else torch.cat([self.around, x], -1)
        y = self.inner.push(x, last)
        ready, self.around = self.around[..., : y.shape[-1]], self.around[..., y.shape[-1] :].clone()
        return ready + y


class StreamedDecoder:
    """A decoder fed in pieces: (B, C, n) latents -> (B, channels, m) final frames; as the decoder at once."""

    def __init__(self, decoder: Decoder, config: ConvConfig) -> None:
        self.layers: list[StreamedLayer | StreamedBlock] = [StreamedLayer(decoder.first, 1)]
        dilations = [config.dilation_growth**d for d in reversed(range(config.depth))]
        for stack, upsample in decoder.stages:
            self.layers += [StreamedBlock(*pair) for pair in zip(stack, dilations, strict=True)]
            self.layers.append(StreamedLayer(upsample, 1, upsampling=2))
        self.layers.append(StreamedLayer(decoder.out, 1))
        self.in_metres = decoder.in_metres

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Takes in latents (B, C, n >= 0), with `last` the end of them, and gives the frames they decide."""
        for layer in self.layers:
            x = layer.push(x, last)
        return self.in_metres(x)


class PoseStream:
    """Codes in, joints out: the memory's decoders fed in pieces, the root integrated throughout.

    The dancer starts at the origin. Height drifts as errors of velocity add up; `LevelStream` of
    utils/export takes that out.
    """

    def __init__(self, memory: ChoreographicMemory) -> None:
        self.memory = memory
        conv = memory.config.conv
        self.upper = StreamedDecoder(memory.upper.decoder, conv)
        self.lower = StreamedDecoder(memory.lower.decoder, conv)
        self.velocity = None if memory.velocity is None else StreamedDecoder(memory.velocity, conv)
        self.root: Tensor | None = None  # of the next frame, float64

    @torch.no_grad()
    def push(self, codes: Codes, last: bool = False) -> Tensor:
        """Joints (B, m, J, 3) that codes (B, n >= 0) decide; with `last`, all that are left."""
        upper = self.memory.upper.quantizer.decode(codes.upper)
        lower = self.memory.lower.quantizer.decode(codes.lower)
        pose = self.memory.join(
            self.upper.push(upper, last).transpose(1, 2), self.lower.push(lower, last).transpose(1, 2)
        )
        if self.velocity is not None:
            pose = with_root(pose, self.velocity.push(lower, last).transpose(1, 2))
        velocity = pose[..., :3].double()
        if self.root is None:
            self.root = torch.zeros_like(pose[:, :1, :3], dtype=torch.float64) if pose.shape[1] else None
        if self.root is None:
            return pose.unflatten(-1, (-1, 3))
        root = torch.cat([self.root, self.root + velocity.cumsum(1)], 1)
        self.root = root[:, -1:]
        place = root[:, :-1].to(pose.dtype).unsqueeze(-2)
        return torch.cat([place, pose[..., 3:].unflatten(-1, (-1, 3)) + place], -2)


class DanceStream:
    """One dance, composed and decoded while its music arrives.

    Args:
        gpt: the motion GPT, in eval mode.
        memory: the choreographic memory, in eval mode.
        first: the codes it starts from, (n,) each.
        config: how codes are composed; the released way if None.
        key: with the config's seed it decides the draws; "0" as of the first dance of `generate`.
    """

    def __init__(
        self,
        gpt: MotionGPT,
        memory: ChoreographicMemory,
        first: Codes,
        config: GenerationConfig | None = None,
        key: str = "0",
    ) -> None:
        self.composer = Composer(gpt, config or GenerationConfig(), [key])
        self.poses = PoseStream(memory)
        self.device = gpt.base.positions.device
        count = max(1, len(first.upper))
        start = Codes(*(half.to(self.device).unsqueeze(0) for half in first))
        self.first = decided_codes(gpt.num_codes, start, None, 1, count)
        self.steps, self.channels = 0, gpt.music_channels

    def push(self, music: Tensor, last: bool = False) -> DanceChunk:
        """Takes in music (n, D), n >= 0, at the code rate; with `last` gives all frames that are left.

        Raises:
            ValueError: if the music is of another shape.
        """
        if music.ndim != 2 or music.shape[1] != self.channels:
            raise ValueError(f"music must be (n, {self.channels}), got {tuple(music.shape)}")
        made = [self._step(step) for step in music.to(self.device)]
        none = torch.zeros(0, dtype=torch.long, device=self.device)
        codes = Codes(*(torch.cat([none, *(pair[half] for pair in made)]) for half in (0, 1)))
        joints = self.poses.push(Codes(codes.upper.unsqueeze(0), codes.lower.unsqueeze(0)), last)
        return DanceChunk(codes, joints[0])

    def _step(self, music: Tensor) -> Codes:
        known = self.steps < self.first.upper.shape[1]
        free = torch.full((1,), FREE, device=self.device)
        given = Codes(*(half[:, self.steps] if known else free for half in self.first))
        self.steps += 1
        return self.composer.next(music.unsqueeze(0), given)


def stream(
    gpt: MotionGPT,
    memory: ChoreographicMemory,
    music: Iterable[Tensor],
    first: Codes,
    config: GenerationConfig | None = None,
) -> Iterator[DanceChunk]:
    """Dances to chunks of music (n, D) as they arrive; arguments as of `DanceStream`.

    Yields:
        One chunk of the dance for each of the music, and the frames left over at its end.
    """
    dance = DanceStream(gpt, memory, first, config)
    for chunk in music:
        yield dance.push(chunk)
    yield dance.push(torch.zeros(0, gpt.music_channels), last=True)
