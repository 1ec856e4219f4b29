"""Passes that torch.compile made: the same codes as without it, whatever the batch, and errors that help."""

import shutil

import pytest
import torch
from torch._inductor import config as inductor

from models.cache import WindowCache
from models.compiling import compiled_pass
from models.generation import GenerationConfig, generate_all
from models.gpt import GPTConfig, MotionGPT
from models.precision import in_precision
from models.vqvae import Codes

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler",
)


def lively_gpt(cross_conditional=True, seed=0):
    """Weights large enough that codes depend on everything seen."""
    torch.manual_seed(seed)
    config = GPTConfig(
        width=32, heads=4, base_blocks=1, head_blocks=1, context=7, cross_conditional=cross_conditional
    )
    gpt = MotionGPT(config, (31, 23), 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def danced(gpt, lengths, **how):
    music = [torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in lengths]
    first = [Codes(torch.arange(k + 1), torch.arange(k + 1)) for k in range(len(lengths))]
    return generate_all(gpt, music, first, GenerationConfig(**how), torch.device("cpu"))


@needs_compiler
@pytest.mark.parametrize(
    "how", [{"window": "exact"}, {"window": "hop", "hop": 3}], ids=["exact window", "hop window"]
)
def test_compiled_dances_are_the_same(how):
    """Songs of several lengths and starts: the batch shrinks from three to one."""
    gpt = lively_gpt()
    plain, compiled = (danced(gpt, (14, 26, 20), **how, compile=c) for c in (False, True))
    for ours, theirs in zip(compiled, plain, strict=True):
        assert len(theirs.upper.unique()) > 3
        assert torch.equal(ours.upper, theirs.upper)
        assert torch.equal(ours.lower, theirs.lower)


@needs_compiler
def test_the_cache_with_all_its_room_gives_the_same_logits():
    """Independent halves, whose masks depend on the pieces; a room that is never full; bf16."""
    for gpt in (lively_gpt(cross_conditional=False), in_precision(lively_gpt(), "bf16")):
        compiled, music = compiled_pass(gpt), torch.randn(1, 6, 6)
        codes = Codes(torch.randint(31, (1, 6)), torch.randint(23, (1, 6)))
        ours, plain = WindowCache(2, 7), WindowCache(2, 7)
        rough = gpt.head.to_upper.weight.dtype == torch.bfloat16
        with torch.no_grad():
            for begin, end in ((0, 4), (4, 5), (5, 6)):
                now = slice(begin, end)
                given = music[:, now], Codes(codes.upper[:, now], codes.lower[:, now])
                expected, made = gpt.next_logits(*given, plain), gpt.next_logits(*given, ours, compiled)
                for half in (0, 1):
                    near = 0.05 * expected[half].std().item() if rough else 1e-4
                    torch.testing.assert_close(made[half], expected[half], rtol=0, atol=near)
        assert ours.seen == 6


@needs_compiler
def test_another_gpt_is_compiled_anew():
    """Weights are built in: those of one GPT must not turn up in the next one's dances."""
    how = {"window": "hop", "hop": 3}
    for seed in (1, 2):
        gpt = lively_gpt(seed=seed)
        plain, compiled = (danced(gpt, (16,), **how, compile=c)[0] for c in (False, True))
        assert torch.equal(compiled.upper, plain.upper)
    weights = gpt.head.to_upper.weight
    assert weights.requires_grad  # the GPT itself is left alone


def test_no_compiler_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing compiled before
    message = r"torch.compile failed .*no-g\+\+.* needs a C\+\+ compiler .* generation.compile: false"
    no_compiler = inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-g++"))})
    with no_compiler, pytest.raises(ValueError, match=message):
        danced(lively_gpt(seed=9), (16,), compile=True)


def test_onednn_is_not_compiled():
    with pytest.raises(ValueError, match="not with fp32_onednn"):
        GenerationConfig(compile=True, precision="fp32_onednn")
