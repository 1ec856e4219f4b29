"""A motion GPT that composes a code at a time: which window it looks through, and what it remembers.

Source: Bailando (CVPR 2022), section 3.4, with the window of the released system: 28 codes, one less than the
GPT's context, their positions starting anew in every window. That window moves with every code, so all of it
is computed for every code. A window that stays and grows needs only the three new tokens.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from models.cache import WindowCache
from models.compiling import compiled_pass
from models.given import FREE
from models.gpt import MotionGPT
from models.precision import Precision, in_precision
from models.sampling import choose, generator_of
from models.vqvae import Codes
from utils.config import ConfigModel


class GenerationConfig(ConfigModel):
    """How codes are composed."""

    window: Literal["exact", "hop"] = "exact"
    """`exact` slides with every code, as released. `hop` moves every `hop` codes and grows between: about a
    fifth of the work."""
    window_codes: PositiveInt | None = None
    """Codes in the full window; at most the GPT's context. None is one less than the context, as released."""
    hop: PositiveInt | None = None
    """Codes the hop window moves by: its length runs from window_codes - hop + 1 to window_codes. None is
    half the window."""
    precision: Precision = "fp32"
    """Of the GPT's blocks; `bf16` is faster, and a near tie between two codes may fall otherwise.
    `fp32_onednn` is fp32 by way of another library, on a CPU: faster on AMD processors."""
    compile: bool = False
    """Let torch.compile make the passes faster, for half a minute at the start: for long songs, and many.
    Finetuning never compiles for the dances it learns from: the weights change with each."""
    temperature: NonNegativeFloat = 0.0
    """0 takes the most probable code (as released); above 0 codes are drawn."""
    top_k: NonNegativeInt = 0
    """Draw from the k most probable codes only; 0 is all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the fewest codes that hold this probability together; 1 is all."""
    seed: int = 0
    """Of the draws; each dance has its own."""
    first_codes: tuple[NonNegativeInt, NonNegativeInt] = (423, 12)
    """Upper and lower code that a dance starts from where there is no real one to take them from."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.compile and self.precision == "fp32_onednn":
            raise ValueError("generation.compile goes with precision fp32 or bf16, not with fp32_onednn")
        return self


def window_length(step: int, window: int, hop: int = 1) -> int:
    """Length of the window that code `step` + 1 is taken from: 1, 2, ..., window, window, then by `hop`.

    With hop 1 it stays full. Else it runs from window - hop + 1 to window, again and again. It is full twice
    the first time, as is the optional saw-tooth of the released system.
    """
    if step <= window:
        return min(step + 1, window)
    return window - hop + 1 + (step - window - 1) % hop


class Composer:
    """Composes dances side by side, a code at a time; remembers no more than the window.

    Args:
        gpt: the motion GPT; it is used as it stands, so put it in eval mode.
        config: how.
        keys: a name for each dance, which with the config's seed decides its draws.

    Raises:
        ValueError: if the window does not fit the GPT.
    """

    def __init__(self, gpt: MotionGPT, config: GenerationConfig, keys: Sequence[str]) -> None:
        self.window = config.window_codes or max(1, gpt.config.context - 1)
        self.hop = (config.hop or max(1, self.window // 2)) if config.window == "hop" else 1
        if self.window > gpt.config.context:
            raise ValueError(
                f"generation.window_codes {self.window} does not fit the GPT's context of "
                f"{gpt.config.context} codes"
            )
        if self.hop > self.window:
            raise ValueError(f"generation.hop {self.hop} must not exceed the window of {self.window} codes")
        self.config, self.gpt = config, in_precision(gpt, config.precision)
        self.compiled = compiled_pass(self.gpt) if config.compile else None
        self.cache = WindowCache(gpt.config.base_blocks + gpt.config.head_blocks, self.window)
        self.generators = [generator_of(config.seed, key) for key in keys]
        self.step, self.start = 0, 0
        self.music: Tensor | None = None
        self.codes: Codes | None = None

    @torch.no_grad()
    def next(self, music: Tensor, given: Codes) -> Codes:
        """The next code pair (B,) each.

        Args:
            music: (B, D) features of this step. Those of step 0 are not heard, as released.
            given: (B,) each; codes that are decided already, `FREE` where the GPT is to choose. All are in
                step 0.
        """
        if self.music is None or self.codes is None:
            self.music, self.codes = music[:, None][:, :0], Codes(given.upper[:, None], given.lower[:, None])
            return given
        self.music = torch.cat([self.music, music[:, None]], 1)[:, -self.window :]  # one step ahead of codes
        uniform = self._draw(len(music)).to(music.device)
        if bool((given.upper == FREE).any() | (given.lower == FREE).any()):
            logits = self._logits()
            how = (self.config.temperature, self.config.top_k, self.config.top_p)
            upper, lower = (choose(half, uniform[:, h], *how) for h, half in enumerate(logits))
            given = Codes(
                torch.where(given.upper == FREE, upper, given.upper),
                torch.where(given.lower == FREE, lower, given.lower),
            )
        self.codes = Codes(
            *(
                torch.cat([old, new[:, None]], 1)[:, -self.window :]
                for old, new in zip(self.codes, given, strict=True)
            )
        )
        self.step += 1
        return given

    def keep(self, batch: int) -> None:
        """Goes on with the first `batch` dances only."""
        self.generators = self.generators[:batch]
        self.cache.keep(batch)
        if self.music is not None and self.codes is not None:
            self.music, self.codes = self.music[:batch], Codes(*(half[:batch] for half in self.codes))

    def _draw(self, batch: int) -> Tensor:
        """Two numbers in [0, 1) per dance (B, 2); every step takes two, so that dances stay independent."""
        if self.config.temperature == 0:
            return torch.zeros(batch, 2)
        return torch.stack([torch.rand(2, generator=g, dtype=torch.float64) for g in self.generators])

    def _logits(self) -> tuple[Tensor, Tensor]:
        """Logits (B, K) of the next upper and lower code."""
        assert self.music is not None
        assert self.codes is not None
        length = window_length(self.step, self.window, self.hop)
        if self.step + 1 - length != self.start:
            self.start = self.step + 1 - length
            self.cache.clear()
        new = length - self.cache.seen
        moves = self.step + 2 - window_length(self.step + 1, self.window, self.hop) != self.start
        cache = None if moves and not self.cache.seen else self.cache  # what is not used again is not kept
        codes = Codes(self.codes.upper[:, -new:], self.codes.lower[:, -new:])
        comes_again = cache is None if self.hop == 1 else new in (1, self.window - self.hop + 1)
        return self.gpt.next_logits(
            self.music[:, -new:], codes, cache, self.compiled if comes_again else None
        )
