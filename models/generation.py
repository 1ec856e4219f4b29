"""Generate codes from music: whole songs in a batch, or a code at a time.

Source: Bailando (CVPR 2022), section 3.4, with the attention window of the published system: 28 codes, one
less than the GPT's context, whose positions count from the window's first code. `attention_window` defines
which codes each code is predicted from, and `generate_naively` states the whole procedure in a few lines;
`generate` gives the same codes with a batch, a KV cache and faster arithmetic.

Behind a music transformer (Bailando++) the music of a code depends on the window that it is in. Windows do
not depend on codes, though, so their music is encoded beforehand, many windows at a time. A KV cache would
not be exact: with each code the vectors of up to 2 * reach earlier ones change. `generation.music_context:
song` departs from that.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Annotated, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from tqdm import tqdm

from models.acceleration import AcceleratedGPT, Precision
from models.gpt import KVCache, MotionGPT
from models.vqvae import Codes
from utils.config import ConfigModel
from utils.device import to_device
from utils.graphs import Recorded, kind_of

FREE = -1  # in place of a code that the GPT chooses


class GenerationConfig(ConfigModel):
    """Settings of the generation of codes from music."""

    window: Literal["exact", "hop"] = "exact"
    """Attention window of the GPT: `exact` slides by one with every code, as published; `hop` is chunked: it
    grows code by code and then moves on by `hop` codes, for about a fifth of the work."""
    window_codes: PositiveInt | None = None
    """Number of codes in the full window, at most the GPT's context. null is one less than the context, as
    published."""
    hop: PositiveInt | None = None
    """Number of codes by which the hop window moves: its length runs from window_codes - hop + 1 to
    window_codes. null is half the window."""
    music_context: Literal["window", "song"] = "window"
    """Context of the music transformer, if the GPT has one: `window`, as published, encodes the music of each
    attention window by itself, so nothing can be cached between codes; `song` encodes the whole song once,
    for less work and, with `window: hop`, a KV cache. The codes differ (docs/RESULTS.md)."""
    precision: Precision = "fp32"
    """Arithmetic of the GPT's blocks. `bf16` is faster, and may choose the other of two codes that are nearly
    tied. `fp32_onednn` computes fp32 by another library, on a CPU: faster on AMD processors."""
    compile: bool = False
    """Compile the GPT's forward pass by torch.compile. This takes half a minute at the start and pays for
    long or many songs. Finetuning never compiles for its rollouts, as the weights change with each epoch."""
    cuda_graph: bool | None = None
    """A GPU replays the pass for a code as a CUDA graph instead of being sent its kernels one by one; the
    codes are the same. null does so."""
    temperature: NonNegativeFloat = 0.0
    """Divisor of the logits before a code is drawn. 0 takes the most probable code, as published."""
    top_k: NonNegativeInt = 0
    """Draw from the k most probable codes only. 0 draws from all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the fewest codes that together have this probability. 1 draws from all."""
    max_hold: PositiveInt | None = None
    """Number of steps for which a half of the body may hold a code; the next one is chosen from the others.
    null sets no limit, as published."""
    seed: int = 0
    """Seed of the draws. Each dance has a random generator of its own, seeded with this and its name."""
    first_codes: tuple[NonNegativeInt, NonNegativeInt] = (423, 12)
    """Upper and lower code that a dance starts from if there is no real dance to take them from."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.compile and self.precision == "fp32_onednn":
            raise ValueError("generation.compile goes with precision fp32 or bf16, not with fp32_onednn")
        return self

    def window_and_hop(self, context: int) -> tuple[int, int]:
        """Number of codes in the full window and by which it moves, for a GPT's context; 1 if it slides.

        Raises:
            ValueError: if the window exceeds the context, or the hop the window.
        """
        window = self.window_codes or max(1, context - 1)
        hop = (self.hop or max(1, window // 2)) if self.window == "hop" else 1
        if window > context:
            raise ValueError(
                f"generation.window_codes {window} does not fit the GPT's context of {context} codes"
            )
        if hop > window:
            raise ValueError(f"generation.hop {hop} must not exceed the window of {window} codes")
        return window, hop


class Prompt(NamedTuple):
    """The input of one dance.

    Attributes:
        music: (N, D) features at the code rate; there will be N code pairs. Those of step 0 are not used, as
            published, since the first pair is given. For a GPT with a music transformer (N + 2 * reach, D):
            with the steps before and after, see `datasets.clips.with_context`.
        given: codes (n,) each, 1 <= n <= N, that the dance must have, `FREE` where the GPT chooses; from step
            n on it chooses all. The first pair must be given.
        key: name of the dance, which with the config's seed determines its draws.
    """

    music: Tensor
    given: Codes
    key: str = ""


class AttentionWindow(NamedTuple):
    """The codes that code k is predicted from.

    Attributes:
        start: first of them; the music is that of steps start + 1 to k.
        stop: k, one past the last.
        rebuild: whether code k - 1 was predicted from another start, so that nothing cached can be used.
        grows: whether code k + 1 is predicted from the same start, so that caching is of use.
    """

    start: int
    stop: int
    rebuild: bool
    grows: bool


def attention_window(k: int, window: int, hop: int = 1) -> AttentionWindow:
    """The window of code k >= 1. It grows to its full length, moves by one, and from then on by `hop`.

    With hop 1 it slides with every code. Else its length is a saw-tooth from window - hop + 1 to window, and
    it is full twice the first time, as the optional saw-tooth of the published system is. For a window of 4:

        code            1  2  3  4  5  6  7  8  9 10
        start, hop 1    0  0  0  0  1  2  3  4  5  6
        start, hop 2    0  0  0  0  1  3  3  5  5  7
        start, hop 4    0  0  0  0  1  5  5  5  5  9
    """

    def start(code: int) -> int:
        return 0 if code <= window else 1 + hop * -(-(code - 1 - window) // hop)

    here = start(k)
    return AttentionWindow(here, k, k == 1 or start(k - 1) != here, start(k + 1) == here)


def generator_of(seed: int, key: str) -> torch.Generator:
    """The random generator of the dance named `key`; the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def choose(
    logits: Tensor,
    uniform: Tensor | None,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    barred: Tensor | None = None,
) -> Tensor:
    """Choose codes (B,) by logits (B, K).

    Source: top-p (nucleus) sampling as in Holtzman et al. (ICLR 2020).

    Args:
        logits: natural logarithms of probabilities, up to a constant per row.
        uniform: (B,) numbers in [0, 1) that determine the draws; not used if the temperature is 0.
        temperature: divides the logits; 0 takes the most probable code.
        top_k: draw from the k most probable codes only; 0 is all.
        top_p: draw from the fewest most probable codes that together have this probability; 1 is all.
        barred: (B,) code that must not be chosen, `FREE` where all may be; None: all may be.
    """
    if barred is not None and logits.shape[-1] > 1:
        codes = torch.arange(logits.shape[-1], device=logits.device)
        logits = logits.masked_fill(codes == barred.unsqueeze(-1), -torch.inf)
    if temperature == 0:
        return logits.argmax(-1)
    assert uniform is not None
    ranked, codes = (logits.double() / temperature).sort(dim=-1, descending=True, stable=True)
    shares = ranked.softmax(-1)
    if 0 < top_k < shares.shape[-1]:
        shares[:, top_k:] = 0
    shares = shares / shares.sum(-1, keepdim=True)
    before = shares.cumsum(-1) - shares
    shares = shares.masked_fill((before >= top_p) & (before > 0), 0)
    reached = (shares / shares.sum(-1, keepdim=True)).cumsum(-1)
    rank = (reached <= uniform.to(reached).unsqueeze(-1)).sum(-1)
    last = (shares > 0).sum(-1) - 1  # rounding may leave the sum below 1
    return codes.gather(-1, rank.minimum(last).unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def generate_naively(gpt: MotionGPT, prompt: Prompt, config: GenerationConfig) -> Codes:
    """The codes (N,) of `generate` by definition: a full forward pass over the window for every code.

    The reference that tests compare `generate` with. It ignores `precision` and `compile`.
    """
    window, hop = config.window_and_hop(gpt.config.context)
    draws, how = generator_of(config.seed, prompt.key), (config.temperature, config.top_k, config.top_p)
    music, number = prompt.music, len(prompt.music) - 2 * gpt.reach
    around = 2 * gpt.reach
    if gpt.music is not None and config.music_context == "song":
        music, around = gpt.music.of_song(music), 0
    limit = config.max_hold or number
    halves = [half.clone() for half in cut(prompt.given, 0, number)]
    for k in range(1, number):
        start = attention_window(k, window, hop).start
        seen = music[None, start + 1 : k + 1 + around]
        logits = gpt(seen, Codes(*(half[None, start:k] for half in halves)))
        uniform = torch.rand(2, generator=draws, dtype=torch.float64)
        for h, half in enumerate(halves):
            if half[k] == FREE:
                held = k >= limit and (half[k - limit : k] == half[k - 1]).all()
                barred = half[k - 1 : k] if held else None
                half[k] = choose(logits[h][:, -1], uniform[h : h + 1], *how, barred)
    return Codes(*halves)


class State:
    """Music, codes and cache of B dances, in memory that stays, so that graphs can use it.

    Attributes:
        music: (B, window, C), the last steps as the base receives them, one step ahead of the codes.
        codes: (B, window) each, the last ones. Of music and codes, what is not filled yet is zero.
        cache: the KV cache.
        held: (B, 2) int64, number of steps for which each half has held its last code.
        graphs: the recorded work for a code, by its kind; None where it was seen once.
    """

    def __init__(self, music: Tensor, codes: Codes, cache: KVCache) -> None:
        self.music, self.codes, self.cache = music, codes, cache
        self.held = torch.zeros(len(music), len(codes), dtype=torch.long, device=music.device)
        self.graphs: dict[Hashable, Recorded[Codes] | None] = {}
        self._first: dict[int, State] = {}

    @classmethod
    def empty(cls, gpt: MotionGPT, batch: int, window: int) -> "State":
        """The state before the first code."""
        device = gpt.base.positions.device
        music = torch.zeros(batch, window, gpt.conditioning_channels, device=device)
        codes = Codes(*torch.zeros(2, batch, window, dtype=torch.long, device=device))
        return cls(music, codes, gpt.new_cache(batch))

    def append_music(self, music: Tensor) -> None:
        """Append the music (B, C) of a step, or replace that of the whole window (B, window, C)."""
        self.music.copy_(music if music.ndim == 3 else torch.cat([self.music[:, 1:], music[:, None]], 1))

    def append_codes(self, codes: Codes) -> None:
        """Append codes (B,) each."""
        for half, (old, new) in enumerate(zip(self.codes, codes, strict=True)):
            held = self.held[:, half]
            held.copy_(torch.where(old[:, -1] == new, held + 1, 1))
            old.copy_(torch.cat([old[:, 1:], new[:, None]], 1))

    def first(self, batch: int) -> "State":
        """The state of the first dances, in the same memory; the same one each time."""
        if batch == len(self.music):
            return self
        if batch not in self._first:
            codes = Codes(*(half[:batch] for half in self.codes))
            part = self._first[batch] = State(self.music[:batch], codes, self.cache.first(batch))
            part.held = self.held[:batch]
        return self._first[batch]


class Inputs(NamedTuple):
    """Inputs of a step.

    Attributes:
        music: (B, C), of the step; (B, window, C), of the window, if the music of earlier codes changes.
        given: (B,) each; codes that are given, `FREE` where the GPT chooses; None if it chooses all.
        uniform: (B, 2) draws; None if the most probable code is taken.
        new: number of codes in the window that the cache does not hold; 0 if all codes of the step are given.
        cached: whether the cache is used.
    """

    music: Tensor
    given: Codes | None
    uniform: Tensor | None
    new: int
    cached: bool


class Generator:
    """Generates dances side by side, a code pair per step, in memory that does not grow beyond the window.

    Args:
        gpt: the motion GPT, in eval mode, or what `accelerated` has made of it.
        config: how codes are generated.
        keys: name of each dance, which with the config's seed determines its draws.

    Raises:
        ValueError: if the window does not fit the GPT.
    """

    def __init__(
        self, gpt: MotionGPT | AcceleratedGPT, config: GenerationConfig, keys: Sequence[str]
    ) -> None:
        self.forward = accelerated(gpt, config)
        self.window, self.hop = config.window_and_hop(self.forward.gpt.config.context)
        self._how = config.temperature, config.top_k, config.top_p
        self._max_hold = config.max_hold
        self.generators = [generator_of(config.seed, key) for key in keys]
        self.caches = not encodes_windows(self.forward.gpt, config)
        self.steps = 0
        self.cached = 0  # how many codes the cache holds
        self._memory = len(keys), self.window
        unused = self.forward.unused.setdefault(self._memory, [])
        self._whole: State = unused.pop() if unused else State.empty(self.forward.gpt, *self._memory)
        self.state = self._whole

    @torch.no_grad()
    def step(self, music: Tensor, given: Codes | None = None) -> Codes:
        """Return the next code pair (B,) each; with CUDA graphs the next step overwrites it.

        Args:
            music: (B, C) of this step, as the base receives it; that of step 0 is not used. If windows are
                encoded by themselves: (B, window, C), of the window's codes, which end with this step; what
                is before them is not used.
            given: (B,) each, on the CPU; codes that are given already, `FREE` where the GPT chooses, which is
                everywhere if None. In step 0 all must be given.
        """
        k, self.steps = self.steps, self.steps + 1
        is_free = given is None or bool((given.upper == FREE).any() | (given.lower == FREE).any())
        if given is not None:
            given = Codes(*(half.to(music.device, non_blocking=True) for half in given))
        if k == 0:
            assert given is not None
            self.state.held.zero_()
            self.state.append_codes(given)
            return given
        window = attention_window(k, self.window, self.hop)
        length = window.stop - window.start
        if window.rebuild:
            self.cached = 0
        uniform, new = self._draw(music.device), 0
        uses_cache = self.caches and (self.cached > 0 or window.grows)
        if window.rebuild and uses_cache:
            self.state.cache.clear()
        if is_free:
            new = length - self.cached  # more than one if the codes before were given
            self.cached = length if uses_cache else 0
        return self._run(Inputs(music, given, uniform, new, uses_cache))

    def _run(self, inputs: Inputs) -> Codes:
        """Compute a step, or replay it if its kind was seen before."""
        record = self.forward.record
        if record is None:
            return self._advance(inputs)
        state, kind = self.state, (kind_of(inputs), self.hop, self._max_hold, *self._how)
        if kind not in state.graphs:
            state.graphs[kind] = None
            return self._advance(inputs)
        recorded = state.graphs[kind]
        if recorded is None:
            recorded = state.graphs[kind] = Recorded(self._advance, inputs, inputs.music.device, record)
        return recorded(inputs)

    def _advance(self, inputs: Inputs) -> Codes:
        """Append the step's music and codes to the state; everything that changes is in tensors."""
        state, given = self.state, inputs.given
        state.append_music(inputs.music)
        if inputs.new:
            chosen = self._predict(inputs)
            given = chosen if given is None else overlay(chosen, given)
        assert given is not None
        state.append_codes(given)
        return given

    def _predict(self, inputs: Inputs) -> Codes:
        """Codes (B,) each that the GPT chooses after those in the window."""
        state, new = self.state, inputs.new
        recurs = not inputs.cached if self.hop == 1 else new in (1, self.window - self.hop + 1)
        codes = Codes(*(half[:, -new:] for half in state.codes))
        cache = state.cache if inputs.cached else None
        logits = self.forward.last(state.music[:, -new:], codes, cache, recurs)
        draws = (None, None) if inputs.uniform is None else inputs.uniform.unbind(1)
        chosen = (
            choose(half[:, 0], u, *self._how, barred)
            for half, u, barred in zip(logits, draws, self._barred(), strict=True)
        )
        return Codes(*chosen)

    def _barred(self) -> tuple[Tensor | None, Tensor | None]:
        """The code (B,) that each half has held for as long as it may, `FREE` where it may go on."""
        if self._max_hold is None:
            return None, None
        last = torch.stack([half[:, -1] for half in self.state.codes], 1)
        upper, lower = last.masked_fill(self.state.held < self._max_hold, FREE).unbind(1)
        return upper, lower

    def keep(self, batch: int) -> None:
        """Drop all but the first `batch` dances."""
        self.generators = self.generators[:batch]
        self.state = self._whole.first(batch)

    def close(self) -> None:
        """Give the memory and its graphs back, for the next dances; no step may follow."""
        if self.forward.record is not None:
            self.forward.unused[self._memory].append(self._whole)

    def _draw(self, device: torch.device) -> Tensor | None:
        """Two numbers in [0, 1) per dance (B, 2); every step takes two, so that dances stay independent."""
        if self._how[0] == 0:
            return None
        drawn = torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in self.generators])
        return to_device(drawn, device)


def encodes_windows(gpt: MotionGPT, config: GenerationConfig) -> bool:
    """Whether the music of each attention window is encoded by itself."""
    return gpt.music is not None and config.music_context == "window"


class EncodedMusic:
    """The music of songs as the base receives it, step by step.

    Without a music transformer these are the features. With one, the vectors of whole songs are computed at
    once, or those of the windows of the next steps, in batches of bounded memory.

    Args:
        gpt: the motion GPT, in eval mode.
        songs: (N_i + 2 * reach, D) each, the longest first.
        config: how codes are generated.
        device: that of the GPT.
    """

    def __init__(
        self, gpt: MotionGPT, songs: Sequence[Tensor], config: GenerationConfig, device: torch.device
    ) -> None:
        self.gpt = gpt
        self.window, self.hop = config.window_and_hop(gpt.config.context)
        self.by_window = encodes_windows(gpt, config)
        self.steps = len(songs[0]) - 2 * gpt.reach
        on_device = [song.to(device) for song in songs]
        if gpt.music is not None and not self.by_window:
            on_device = [gpt.music.of_song(song) for song in on_device]
        self._songs = torch.nn.utils.rnn.pad_sequence(on_device, batch_first=True)
        self._first, self._encoded = 0, self._songs[:, :0]  # windows of which step on, and these

    def of_step(self, k: int, batch: int) -> Tensor:
        """Music of code k of the first dances, as `Generator.step` takes it."""
        if not self.by_window:
            return self._songs[:batch, k]
        if k == 0:  # not used
            return self._songs.new_zeros(batch, self.window, self.gpt.conditioning_channels)
        if not 0 <= k - self._first < self._encoded.shape[1]:
            self._encode(k, batch)
        return self._encoded[:batch, k - self._first]

    @torch.no_grad()
    def _encode(self, k: int, batch: int) -> None:
        """Encode the windows of code k and of those that follow; they begin in the order of their codes."""
        windows = [
            attention_window(step, self.window, self.hop)
            for step in range(k, min(self.steps, k + max(1, _WINDOWS // batch)))
        ]
        starts, steps = (
            torch.tensor(x) for x in zip(*((w.start + 1, w.stop - w.start) for w in windows), strict=True)
        )
        shape = batch, len(windows), self.window, self.gpt.conditioning_channels
        self._first, self._encoded = k, self._songs.new_zeros(shape)
        assert self.gpt.music is not None
        first, end = int(starts[0]), int((starts + steps).max()) + 2 * self.gpt.reach
        for song in range(batch):
            found = self.gpt.music.of_windows(self._songs[song, first:end], starts - first, steps)
            for place, vectors in enumerate(found):
                self._encoded[song, place, self.window - len(vectors) :] = vectors


_WINDOWS = 2048  # windows whose music is kept; with the published sizes 86 kB each


def accelerated(gpt: MotionGPT | AcceleratedGPT, config: GenerationConfig) -> AcceleratedGPT:
    """The GPT's forward pass in the way that the config asks for; what is one already is returned as it is.

    Raises:
        ValueError: if the config asks for what is not possible here.
    """
    if isinstance(gpt, AcceleratedGPT):
        return gpt
    return AcceleratedGPT(gpt, config.precision, config.compile, config.cuda_graph)


@torch.no_grad()
def generate(
    gpt: MotionGPT | AcceleratedGPT,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    device: torch.device,
    progress: bool = False,
) -> list[Codes]:
    """Generate dances to songs of any lengths in one batch.

    No dance depends on another, and finished ones cost nothing more. A song may come several times, as
    variants, each with a key of its own.

    Args:
        gpt: the motion GPT, in eval mode, on the device, or what `accelerated` has made of it.
        prompts: music and given codes of each dance.
        config: how codes are generated.
        device: where they are generated.
        progress: whether to show a progress bar.

    Returns:
        Codes (N_i,) on the CPU for each prompt, as many as its music steps, the given ones included.

    Raises:
        ValueError: if the window does not fit the GPT, shapes do not fit each other, or a given code is not
            in its codebook.
    """
    plain = gpt.gpt if isinstance(gpt, AcceleratedGPT) else gpt
    for prompt in prompts:
        check_prompt(plain, prompt)
    if not prompts:
        return []
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].music))  # finished ones come last
    ordered = [prompts[i] for i in order]
    lengths = [len(prompt.music) - 2 * plain.reach for prompt in ordered]
    music = EncodedMusic(plain, [prompt.music for prompt in ordered], config, device)
    given = [torch.stack(half) for half in zip(*(cut(p.given, 0, lengths[0]) for p in ordered), strict=True)]
    free = (torch.cat(given) == FREE).all(0).tolist()  # steps in which nothing is given
    upper, lower = (torch.zeros_like(half, device=device) for half in given)
    generator = Generator(gpt, config, [prompt.key for prompt in ordered])
    for k in tqdm(range(lengths[0]), "codes", disable=None if progress else True, leave=False):
        batch = sum(length > k for length in lengths)
        if generator.forward.record is not None:
            batch = graphed_size(batch, len(ordered))
        generator.keep(batch)
        codes = generator.step(
            music.of_step(k, batch), None if free[k] else Codes(*(half[:batch, k] for half in given))
        )
        upper[:batch, k], lower[:batch, k] = codes
    generator.close()
    upper, lower = upper.cpu(), lower.cpu()
    rows = sorted(range(len(order)), key=order.__getitem__)
    return [Codes(upper[row, : lengths[row]], lower[row, : lengths[row]]) for row in rows]


def graphed_size(batch: int, largest: int) -> int:
    """The smallest of largest, half of it, a quarter, ... (rounded up) that holds the batch.

    Each size has graphs of its own, so finished dances stay in the batch until half of it is finished.
    """
    while largest > 1 and -(-largest // 2) >= batch:
        largest = -(-largest // 2)
    return largest


def overlay(codes: Codes, given: Codes) -> Codes:
    """Codes of the same shape, replaced by the given ones where these are not `FREE`."""
    return Codes(*(torch.where(over == FREE, half, over) for half, over in zip(codes, given, strict=True)))


def cut(codes: Codes, start: int, steps: int) -> Codes:
    """Codes (steps,) each, those from `start` on, `FREE` beyond their end."""
    halves = (half[start : start + steps] for half in codes)
    return Codes(*(F.pad(half, (0, steps - len(half)), value=FREE) for half in halves))


def check_prompt(gpt: MotionGPT, prompt: Prompt) -> None:
    """Check a prompt's music and given codes.

    Raises:
        ValueError: if shapes do not fit, the first pair is not given, or a code is not in its codebook.
    """
    music, given, around = prompt.music, prompt.given, 2 * gpt.reach
    if music.ndim != 2 or music.shape[1] != gpt.music_channels or len(music) <= around:
        needed = f"(N + {around}, {gpt.music_channels})" if around else f"(N, {gpt.music_channels})"
        raise ValueError(f"music must be {needed} with at least one step, got {tuple(music.shape)}")
    check_given(gpt.num_codes, given)
    if len(given.upper) > len(music) - around:
        raise ValueError(f"{len(given.upper)} codes are given for {len(music) - around} steps of music")


def check_given(num_codes: tuple[int, int], given: Codes) -> None:
    """Check given codes (n,) each; errors as of `check_prompt`."""
    if given.upper.ndim != 1 or given.upper.shape != given.lower.shape:
        raise ValueError(
            "given codes must be (n,), as many upper as lower ones, "
            f"got {tuple(given.upper.shape)} and {tuple(given.lower.shape)}"
        )
    for name, half, size in zip(("upper", "lower"), given, num_codes, strict=True):
        if not len(half) or half[0] == FREE:
            raise ValueError(f"the first {name} code of a dance must be given")
        wrong = half[(half >= size) | (half < FREE)]
        if len(wrong):
            raise ValueError(f"{name} code {int(wrong[0])} is not in the codebook of {size} codes")
