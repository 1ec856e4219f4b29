"""Generate a dance while its music arrives: music features in, codes and joints out, in constant memory.

A code needs no more music than its own step; with a music transformer `reach` steps more (5: with its own
step 48 frames, 0.8 s). The convolutions that decode it look ahead, though: a frame is final once no later
code can change it, `ConvConfig.look_ahead` codes after its own (26 codes, 3.5 s, with the published sizes).
The output equals that of `generate` and of decoding the whole song at once.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.conv import ConvConfig, Decoder, ResidualBlock
from models.generation import (
    GenerationConfig,
    Generator,
    attention_window,
    check_given,
    encodes_windows,
)
from models.gpt import MotionGPT
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import with_root


class DanceChunk(NamedTuple):
    """Output for a chunk of music.

    Attributes:
        codes: (n,) each, one pair per music step.
        joints: (m, J, 3) metres; the frames that became final, which follow those of the previous chunk.
    """

    codes: Codes
    joints: Tensor


class StreamedLayer:
    """A layer, zero-padded at the ends, whose output depends on `margin` inputs on both sides."""

    def __init__(self, layer: nn.Module, margin: int, upsampling: int = 1) -> None:
        self.layer, self.margin, self.upsampling = layer, margin, upsampling
        self.pending: Tensor | None = None

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Append inputs (B, C, n >= 0) and return the outputs (B, C', m) that they complete."""
        if self.pending is None:
            self.pending = F.pad(x[..., :0], (self.margin, 0))
        x = torch.cat([self.pending, x], -1)
        if last:
            x = F.pad(x, (0, self.margin))
        self.pending = x[..., max(0, x.shape[-1] - 2 * self.margin) :].clone()
        if x.shape[-1] <= 2 * self.margin:
            return self._empty(x)
        edge = self.margin * self.upsampling
        y = self.layer(x)
        return y[..., edge : y.shape[-1] - edge]

    def _empty(self, x: Tensor) -> Tensor:
        return self.layer(F.pad(x[..., :0], (0, 2 * self.margin + 1)))[..., :0]


class StreamedBlock:
    """A residual block whose skip connection is delayed by as much as its convolutions."""

    def __init__(self, block: ResidualBlock, dilation: int) -> None:
        self.inner = StreamedLayer(block.layers, dilation)
        self.skip: Tensor | None = None

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Append input and return the output that it completes; see `StreamedLayer.push`."""
        self.skip = x if self.skip is None else torch.cat([self.skip, x], -1)
        y = self.inner.push(x, last)
        ready, self.skip = self.skip[..., : y.shape[-1]], self.skip[..., y.shape[-1] :].clone()
        return ready + y


class StreamedDecoder:
    """A decoder fed in chunks: latents (B, C, n) -> final frames (B, channels, m), as those of one pass."""

    def __init__(self, decoder: Decoder, config: ConvConfig) -> None:
        self.layers: list[StreamedLayer | StreamedBlock] = [StreamedLayer(decoder.first, 1)]
        dilations = [config.dilation_growth**d for d in reversed(range(config.depth))]
        for stack, upsample in cast("Iterable[nn.Sequential]", decoder.stages):
            blocks = cast("Iterable[ResidualBlock]", stack)
            self.layers += [StreamedBlock(*pair) for pair in zip(blocks, dilations, strict=True)]
            self.layers.append(StreamedLayer(upsample, 1, upsampling=2))
        self.layers.append(StreamedLayer(decoder.out, 1))
        self.in_metres = decoder.in_metres

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """Append latents (B, C, n >= 0) and return the frames they complete; with `last`, all left."""
        for layer in self.layers:
            x = layer.push(x, last)
        return self.in_metres(x)


class PoseStream:
    """Decode codes to joints in chunks: the memory's decoders, with the root integrated over all chunks.

    The root starts at the origin. Its height drifts, as errors of the velocity add up; `LevelStream` of
    utils/export removes the drift.
    """

    def __init__(self, memory: ChoreographicMemory) -> None:
        self.memory = memory
        conv = memory.config.conv
        self.upper = None if memory.upper is None else StreamedDecoder(memory.upper.decoder, conv)
        self.lower = StreamedDecoder(memory.lower.decoder, conv)
        self.velocity = None if memory.velocity is None else StreamedDecoder(memory.velocity, conv)
        self.root: Tensor | None = None  # of the next frame, float64

    @torch.no_grad()
    def push(self, codes: Codes, last: bool = False) -> Tensor:
        """Append codes (B, n >= 0) and return the joints (B, m, J, 3) they complete, or all that are left."""
        lower = self.memory.lower.quantizer.decode(codes.lower)
        lower_motion = self.lower.push(lower, last).transpose(1, 2)
        upper_motion = lower_motion[..., :0]  # a memory of the whole body has no upper half
        if self.upper is not None and self.memory.upper is not None:
            upper = self.memory.upper.quantizer.decode(codes.upper)
            upper_motion = self.upper.push(upper, last).transpose(1, 2)
        pose = self.memory.join(upper_motion, lower_motion)
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


class MusicStream:
    """The music of each code as `Generator.step` takes it, from features that are still arriving.

    Args:
        gpt: the motion GPT, in eval mode.
        config: how codes are generated.

    Raises:
        ValueError: if the config needs the whole song.
    """

    def __init__(self, gpt: MotionGPT, config: GenerationConfig) -> None:
        self.by_window = encodes_windows(gpt, config)
        if gpt.music is not None and not self.by_window:
            raise ValueError(
                "generation.music_context song needs the whole song; use generation.music_context=window"
            )
        self.gpt, self.reach = gpt, gpt.reach
        self.window, self.hop = config.window_and_hop(gpt.config.context)
        self.first = -self.reach  # step of the first row
        self.rows = gpt.base.positions.new_zeros(self.reach, gpt.music_channels)

    def push(self, music: Tensor, last: bool) -> None:
        """Append features (n, D); with `last` also the zeros that follow a song."""
        self.rows = torch.cat([self.rows, music, music.new_zeros(self.reach if last else 0, music.shape[1])])

    def of_step(self, k: int) -> Tensor | None:
        """Music of code k, for a batch of one; None if it has not arrived yet. k must not decrease."""
        if k + self.reach >= self.first + len(self.rows):
            return None
        start = attention_window(k, self.window, self.hop).start if self.by_window and k else k - 1
        self.rows = self.rows[max(0, start + 1 - self.reach - self.first) :]
        self.first = max(self.first, start + 1 - self.reach)
        if not self.by_window:
            return self.rows[:1]
        assert self.gpt.music is not None
        vectors = self.gpt.music(self.rows[None, : k - start + 2 * self.reach])
        return F.pad(vectors, (0, 0, self.window - vectors.shape[1], 0))


class DanceStream:
    """One dance, generated and decoded while its music arrives.

    Args:
        gpt: the motion GPT, in eval mode.
        memory: the choreographic memory, in eval mode.
        given: codes (n,) each that the dance must have, `FREE` where the GPT chooses; as of a `Prompt`.
        config: how codes are generated; the published way if None.
        key: name of the dance, which with the config's seed determines its draws.

    Raises:
        ValueError: if the first pair is not given, a code is not in its codebook, or the window does not fit.
    """

    def __init__(
        self,
        gpt: MotionGPT,
        memory: ChoreographicMemory,
        given: Codes,
        config: GenerationConfig | None = None,
        key: str = "",
    ) -> None:
        check_given(gpt.num_codes, given)
        config = config or GenerationConfig()
        self.generator = Generator(gpt, config, [key])
        self.music = MusicStream(gpt, config)
        self.poses = PoseStream(memory)
        self.device = gpt.base.positions.device
        self.given = Codes(*(half.cpu() for half in given))
        self.channels = gpt.music_channels

    def push(self, music: Tensor, last: bool = False) -> DanceChunk:
        """Append music (n >= 0, D) at the code rate and return the codes and frames that it completes.

        With a music transformer the codes of the last `reach` steps wait for more music. With `last`, all
        codes and frames that are left are returned.

        Raises:
            ValueError: if the music is of another shape.
        """
        if music.ndim != 2 or music.shape[1] != self.channels:
            raise ValueError(f"music must be (n, {self.channels}), got {tuple(music.shape)}")
        self.music.push(music.to(self.device), last)
        pairs = []
        while (conditions := self.music.of_step(self.generator.steps)) is not None:
            pairs.append(self._step(conditions))
        none = torch.zeros(0, dtype=torch.long, device=self.device)
        codes = Codes(*(torch.cat([none, *(pair[half] for pair in pairs)]) for half in (0, 1)))
        joints = self.poses.push(Codes(codes.upper.unsqueeze(0), codes.lower.unsqueeze(0)), last)
        return DanceChunk(codes, joints[0])

    def _step(self, music: Tensor) -> Codes:
        k = self.generator.steps
        given = Codes(*(half[k : k + 1] for half in self.given)) if k < len(self.given.upper) else None
        return Codes(*(half.clone() for half in self.generator.step(music, given)))


def stream(
    gpt: MotionGPT,
    memory: ChoreographicMemory,
    music: Iterable[Tensor],
    given: Codes,
    config: GenerationConfig | None = None,
) -> Iterator[DanceChunk]:
    """Generate a dance from chunks of music (n, D) as they arrive; arguments as of `DanceStream`.

    Yields:
        The output for each chunk of the music, and at its end the frames that are left.
    """
    dance = DanceStream(gpt, memory, given, config)
    for chunk in music:
        yield dance.push(chunk)
    yield dance.push(torch.zeros(0, gpt.music_channels), last=True)
